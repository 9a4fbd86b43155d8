package train

import (
	"context"

	"github.com/ddprun/ddprun/objectives"
	"github.com/ddprun/ddprun/shard"
)

// Inspect makes the first n samples of an epoch (counted from 0) as training would with job's configuration and lanes, in the order of steps and lanes, and
// gives each to f with its number in the epoch and its objective, alone in a batch that f borrows. It needs job's Config, Train and Objectives alone.
func Inspect(ctx context.Context, job *Job, lanes int, epoch int64, n int, f func(index int64, objective string, b *objectives.Batch) error) error {
	p, err := job.newPlan(ctx, lanes)
	if err != nil {
		return mark(ErrInput, err)
	}
	defer p.close()
	first, end, err := p.steps(ctx, epoch)
	if err != nil {
		return err
	}
	var indices []int64
	var scratch shard.Sample
	var b objectives.Batch
	for step := first; step < end; step++ {
		for lane := range lanes {
			from := int64(0)
			if indices, from, err = p.microBatch(step, lane, indices); err != nil {
				return err
			}
			for at, index := range indices {
				if n--; n < 0 {
					return nil
				}
				b.Reset()
				key := objectives.Key{Seed: uint64(job.Config.Seed), Epoch: uint64(epoch), Sample: uint64(index)}
				part := job.Objectives.Parts[job.Objectives.Choose(key)]
				if err := job.appendSample(&b, part, job.Train, p.order.PoolAt(epoch, lane, from+int64(at)), index, &scratch, key); err != nil {
					return err
				}
				if err := f(index, part.Name, &b); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
