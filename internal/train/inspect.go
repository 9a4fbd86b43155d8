package train

import (
	"github.com/ddprun/ddprun/objectives"
	"github.com/ddprun/ddprun/shard"
)

// Inspect makes the first n samples of an epoch (counted from 0) as training would with job's configuration and lanes, in the order of steps and lanes, and
// gives each to f with its number in the epoch and its objective, alone in a batch that f borrows. It needs job's Config, Train and Objectives alone.
func Inspect(job *Job, lanes int, epoch int64, n int, f func(index int64, objective string, b *objectives.Batch) error) error {
	p, err := newPlan(job.Config, job.Train.Len(), lanes)
	if err != nil {
		return mark(ErrInput, err)
	}
	var indices []int64
	var scratch shard.Sample
	var b objectives.Batch
	for step := range p.stepsPerEpoch {
		for lane := range lanes {
			indices = p.order.MicroBatch(epoch, step, lane, indices)
			for at, index := range indices {
				if n--; n < 0 {
					return nil
				}
				b.Reset()
				key := objectives.Key{Seed: uint64(job.Config.Seed), Epoch: uint64(epoch), Sample: uint64(index)}
				part := job.Objectives.Parts[job.Objectives.Choose(key)]
				if err := job.appendSample(&b, part, job.Train, p.order.Pool(epoch, step, lane, at), index, &scratch, key); err != nil {
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
