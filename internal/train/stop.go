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

// errAskedToStop is why work was cut short, or must not be used: some rank was asked to stop.
var errAskedToStop = errors.New("asked to stop")

// stopping tells whether this rank was asked to stop.
func (job *Job) stopping() bool {
	select {
	case <-job.Stop:
		return true
	default:
		return false
	}
}

// untilStop returns a context that the request to stop ends too, with errAskedToStop as its cause, until release is called.
func (job *Job) untilStop(ctx context.Context) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	if job.stopping() {
		cancel(errAskedToStop)
	}
	go func() {
		select {
		case <-job.Stop:
			cancel(errAskedToStop)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// cutShort returns errAskedToStop where that has ended work under a context of untilStop, else the error of the work.
func cutShort(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errAskedToStop) {
		return errAskedToStop
	}
	return err
}

// agreeToStop is errAskedToStop where any rank was asked to stop, after a part of the set-up that has ended with err on this rank. Every rank calls it at the same points. A failure is
// returned as it is: the end of this rank is what the others see of it.
func (r *rank) agreeToStop(err error) error {
	if err != nil && err != errAskedToStop {
		return err
	}
	asked := []float64{0}
	if err != nil || r.job.stopping() {
		asked[0] = 1
	}
	r.job.Activity.set(agreeOnStop)
	if err := ddp.SumFloat64s(r.sums, asked); err != nil {
		return mark(ErrPeer, err)
	}
	if asked[0] > 0 {
		return errAskedToStop
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
