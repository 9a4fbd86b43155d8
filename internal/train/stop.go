package train

import (
	"context"
	"errors"
	"time"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/torch"
)

// A request to stop reaches the ranks one after another. Each cuts its own work short, but none leaves: it comes to the next collective of all as if the work were done, says there what
// it did, and so all ranks stop at the same point. The training asks with the counts of each step (feed), an evaluation where it gathers its sums, the set-up in agreeToStop.

// ErrAskedToStop is why work was cut short, or must not be used: some rank was asked to stop.
var ErrAskedToStop = errors.New("asked to stop")

// stopping tells whether this rank was asked to stop.
func (job *Job) stopping() bool { return asked(job.Stop) }

func asked(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// UntilAsked returns a context that the request to stop, the closing of stop, ends too, with ErrAskedToStop as its cause, until release is called.
func UntilAsked(ctx context.Context, stop <-chan struct{}) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	if asked(stop) {
		cancel(ErrAskedToStop)
	}
	go func() {
		select {
		case <-stop:
			cancel(ErrAskedToStop)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// cutShort returns ErrAskedToStop where that has ended work under a context of UntilAsked, else the error of the work.
func cutShort(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), ErrAskedToStop) {
		return ErrAskedToStop
	}
	return err
}

// agreeToStop is ErrAskedToStop where any rank was asked to stop, after a part of the set-up that has ended with err on this rank. Every rank calls it at the same points. A failure is
// returned as it is: the end of this rank is what the others see of it.
func (r *rank) agreeToStop(err error) error {
	if err != nil && err != ErrAskedToStop {
		return err
	}
	votes := []float64{0}
	if err != nil || r.job.stopping() {
		votes[0] = 1
	}
	r.job.Activity.set(agreeOnStop)
	if err := ddp.SumFloat64s(r.sums, votes); err != nil {
		return mark(ErrPeer, err)
	}
	if votes[0] > 0 {
		return ErrAskedToStop
	}
	return nil
}

// await is the store's Get; the end of ctx ends it too, with its cause.
func await(ctx context.Context, store torch.Store, key string, timeout time.Duration) ([]byte, error) {
	type answer struct {
		value []byte
		err   error
	}
	got := make(chan answer, 1)
	go func() { // ends with the store's own wait, or the process
		value, err := store.Get(key, timeout)
		got <- answer{value, err}
	}()
	select {
	case a := <-got:
		return a.value, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
