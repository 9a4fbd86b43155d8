package train

import (
	"context"
	"fmt"
	"time"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/objectives"
	"github.com/ddprun/ddprun/shard"
)

// feed makes the micro-batches of this rank's lanes, one step ahead of the training, and agrees with the other ranks on what they
// share about the step: the counts that the loss is divided by, and whether somebody was asked to stop.
type feed struct {
	job     *Job
	plan    *plan
	group   ddp.Group // the host group; only the feed's goroutine uses it
	first   int       // lanes [first, end) are this rank's
	end     int
	sample  shard.Sample
	indices []int64
	out     chan *stepInput
	free    chan *stepInput
	done    chan struct{}
	cancel  context.CancelFunc
}

// stepInput is one step's input for this rank.
type stepInput struct {
	step    int64
	batches []*objectives.Batch // a lane each, in order; some may be empty
	labels  int64               // labelled tokens over all ranks
	tokens  int64               // over all ranks
	stop    bool                // some rank was asked to stop: don't run this step
	err     error
}

func startFeed(ctx context.Context, job *Job, p *plan, group ddp.Group, from int64) *feed {
	ctx, cancel := context.WithCancel(ctx)
	f := &feed{job: job, plan: p, group: group, out: make(chan *stepInput), free: make(chan *stepInput, 2), done: make(chan struct{}), cancel: cancel}
	f.first, f.end = shard.AssignLanes(p.lanes, job.World, job.Rank)
	for range cap(f.free) {
		in := &stepInput{}
		for range f.end - f.first {
			in.batches = append(in.batches, &objectives.Batch{})
		}
		f.free <- in
	}
	go f.run(ctx, from)
	return f
}

// next returns the next step's input and how long it waited for it; it is valid until release.
func (f *feed) next(ctx context.Context) (*stepInput, time.Duration, error) {
	start := time.Now()
	select {
	case in := <-f.out:
		return in, time.Since(start), in.err
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
}

func (f *feed) release(in *stepInput) { f.free <- in }

// close ends the goroutine. The host group must be aborted first if a peer may not come to its next collective.
func (f *feed) close() {
	f.cancel()
	<-f.done
}

func (f *feed) run(ctx context.Context, from int64) {
	defer close(f.done)
	for step := from; step < f.plan.total; step++ {
		var in *stepInput
		select {
		case in = <-f.free:
		case <-ctx.Done():
			return
		}
		in.step = step
		in.err = f.fill(in)
		last := in.err != nil || in.stop
		select {
		case f.out <- in:
		case <-ctx.Done():
			return
		}
		if last {
			return
		}
	}
}

func (f *feed) fill(in *stepInput) error {
	epoch, epochStep := f.plan.at(in.step)
	sums := make([]float64, 3)
	for i, b := range in.batches {
		b.Reset()
		f.indices = f.plan.order.MicroBatch(epoch, epochStep, f.first+i, f.indices)
		for _, index := range f.indices {
			key := objectives.Key{Seed: uint64(f.job.Config.Seed), Epoch: uint64(epoch), Sample: uint64(index)}
			if err := appendSample(b, f.job.Objective, f.job.Train, index, &f.sample, key); err != nil {
				return err
			}
		}
		sums[0] += float64(len(b.Labels))
		sums[1] += float64(b.Tokens())
	}
	select {
	case <-f.job.Stop:
		sums[2] = 1
	default:
	}
	if err := ddp.SumFloat64s(f.group, sums); err != nil {
		return mark(ErrPeer, err)
	}
	in.labels, in.tokens, in.stop = int64(sums[0]), int64(sums[1]), sums[2] > 0
	return nil
}

// appendSample reads sample index into scratch and appends what the objective makes of it.
func appendSample(b *objectives.Batch, objective *objectives.MLM, samples *shard.Samples, index int64, scratch *shard.Sample, key objectives.Key) error {
	if err := samples.At(index, scratch); err != nil {
		return err
	}
	if err := objective.Append(b, objectives.Sample(*scratch), key); err != nil {
		return fmt.Errorf("sample %d: %w", index, err)
	}
	return nil
}
