package train

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/objectives"
	"github.com/ddprun/ddprun/shard"
)

// feed makes the micro-batches of this rank's lanes, one step ahead of the training, and agrees with the other ranks on what they
// share about the step: the counts that the loss is divided by, and whether somebody was asked to stop.
type feed struct {
	job    *Job
	plan   *plan
	group  ddp.Group // the host group; only the feed's goroutine uses it
	first  int       // lanes [first, end) are this rank's
	end    int
	sample shard.Sample
	out    chan *stepInput
	free   chan *stepInput
	done   chan struct{}
	cancel context.CancelFunc
	enough atomic.Bool // no more steps are wanted
}

// stepInput is one step's input for this rank.
type stepInput struct {
	step    int64
	batches []microBatch  // a lane's, one for each objective, in order; some may be empty
	samples []laneSamples // of each lane, whatever objective makes them
	counts  []float64     // of each term of the loss, over all ranks
	tokens  int64         // over all ranks
	stop    bool          // some rank was asked to stop: don't run this step
	summed  time.Duration // that summing the counts took: a wait for other ranks
	err     error
}

// microBatch is the samples of a lane that one objective makes.
type microBatch struct {
	*objectives.Batch
	lane, part int
}

func startFeed(ctx context.Context, job *Job, p *plan, group ddp.Group, from int64) *feed {
	ctx, cancel := context.WithCancel(ctx)
	f := &feed{job: job, plan: p, group: group, out: make(chan *stepInput), free: make(chan *stepInput, 2), done: make(chan struct{}), cancel: cancel}
	f.first, f.end = shard.AssignLanes(p.lanes, job.World, job.Rank)
	for range cap(f.free) {
		in := &stepInput{}
		for lane := f.first; lane < f.end; lane++ {
			in.samples = append(in.samples, laneSamples{lane: lane})
			for part := range job.Objectives.Parts {
				in.batches = append(in.batches, microBatch{&objectives.Batch{}, lane, part})
			}
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

// drain ends the feed where every rank wants no more after step steps: what was made ahead is dropped up to the step at which all agree to stop.
func (f *feed) drain(ctx context.Context, step int64) error {
	f.enough.Store(true)
	for ; step < f.plan.total; step++ {
		in, _, err := f.next(ctx)
		if err != nil || in.stop {
			return err
		}
		f.release(in)
	}
	return nil
}

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
		in.err = f.fill(ctx, in)
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

func (f *feed) fill(ctx context.Context, in *stepInput) (err error) {
	f.job.Activity.setFeed(readSamples)
	if f.plan.tokens != nil {
		if err := f.plan.tokens.reach(ctx, in.step); err != nil {
			return err
		}
	}
	epoch, _ := f.plan.at(in.step)
	for _, b := range in.batches {
		b.Reset()
	}
	parts := f.job.Objectives.Parts
	for lane := f.first; lane < f.end; lane++ {
		samples, from := &in.samples[lane-f.first], int64(0)
		samples.epoch = epoch
		if samples.numbers, from, err = f.plan.microBatch(in.step, lane, samples.numbers); err != nil {
			return err
		}
		for at, index := range samples.numbers {
			key := objectives.Key{Seed: uint64(f.job.Config.Seed), Epoch: uint64(epoch), Sample: uint64(index)}
			pool := f.plan.order.Pool(epoch, lane, from+int64(at))
			part := f.job.Objectives.Choose(key)
			b := in.batches[(lane-f.first)*len(parts)+part].Batch
			if err := f.job.appendSample(b, parts[part], f.job.Train, pool, index, &f.sample, key); err != nil {
				return err
			}
		}
	}
	terms := f.job.terms()
	sums := make([]float64, 2+len(terms)) // tokens, stop, counts
	for _, b := range in.batches {
		sums[0] += float64(b.Tokens())
		for k, term := range terms {
			if term.part == b.part {
				sums[2+k] += float64(term.count(b.Batch))
			}
		}
	}
	if f.job.stopping() || f.enough.Load() {
		sums[1] = 1
	}
	f.job.Activity.setFeed(sumCounts)
	began := time.Now()
	if err := ddp.SumFloat64s(f.group, sums); err != nil {
		return mark(ErrPeer, err)
	}
	in.summed = time.Since(began)
	in.tokens, in.stop, in.counts = int64(sums[0]), sums[1] > 0, sums[2:]
	return nil
}

// appendSample reads sample index of the key's epoch into scratch, with a random sentence out of pool where the objective wants one, and appends what the
// objective makes of it.
func (job *Job) appendSample(b *objectives.Batch, objective objectives.Objective, samples *shard.Dataset, pool shard.Pool, index int64, scratch *shard.Sample, key objectives.Key) error {
	if err := samples.At(int64(key.Epoch), index, scratch); err != nil {
		return err
	}
	if negative, choice := objective.Draw(key); negative {
		other, err := samples.Negative(pool, int64(key.Epoch), index, choice, job.Config.NSPNegatives == "any")
		if err != nil {
			return err
		}
		if err := samples.FillNext(other, scratch); err != nil {
			return err
		}
	}
	if err := objective.Append(b, objectives.Sample(*scratch), key); err != nil {
		return fmt.Errorf("sample %d: %w", index, err)
	}
	return nil
}
