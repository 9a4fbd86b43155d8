package train

import (
	"context"
	"fmt"

	"github.com/ddprun/ddprun/objectives"
	"github.com/ddprun/ddprun/shard"
)

// Inspection says which samples [Inspect] makes.
type Inspection struct {
	Lanes   int
	Epoch   int64   // counted from 0
	Samples int     // the first ones of the epoch, in the order of steps and lanes; or
	Numbers []int64 // those of these numbers in the epoch; or
	Step    int64   // those that this step of the run trains on, counted from 1 as metrics are
	Lane    int     // of the step: this lane alone, or all of them where it is below 0
}

// Inspected is a sample as training makes it. It is valid until the function that was given it returns.
type Inspected struct {
	Epoch     int64
	Step      int64 // of the run, from 1; 0: the epoch leaves the sample out
	Lane      int
	Number    int64 // in the epoch
	Objective string
	Batch     *objectives.Batch // the sample alone
}

// Inspect makes samples as training would with job's configuration and gives each to f. It needs job's Config, Train, Objectives and PlansDir alone. What is not
// there to be shown is an error of kind [ErrInput].
func Inspect(ctx context.Context, job *Job, what Inspection, f func(Inspected) error) error {
	p, err := job.newPlan(ctx, what.Lanes)
	if err != nil {
		return mark(ErrInput, err)
	}
	defer p.close()
	i := inspector{job: job, plan: p, f: f}
	switch {
	case what.Step > 0:
		return i.step(ctx, what)
	case len(what.Numbers) > 0:
		return i.numbers(ctx, what)
	}
	first, end, err := p.steps(ctx, what.Epoch)
	if err != nil {
		return err
	}
	left := what.Samples
	for step := first; step < end && left > 0; step++ {
		for lane := range what.Lanes {
			if err := i.lane(what.Epoch, step, lane, &left); err != nil {
				return err
			}
		}
	}
	return nil
}

type inspector struct {
	job     *Job
	plan    *plan
	f       func(Inspected) error
	indices []int64
	sample  shard.Sample
	batch   objectives.Batch
}

// step shows what a step trains on.
func (i *inspector) step(ctx context.Context, what Inspection) error {
	step := what.Step - 1
	if what.Step > i.plan.total {
		return mark(ErrInput, fmt.Errorf("the run has %d steps, so there is no step %d", i.plan.total, what.Step))
	}
	if what.Lane >= what.Lanes {
		return mark(ErrInput, fmt.Errorf("there are lanes 0 to %d, and no lane %d", what.Lanes-1, what.Lane))
	}
	if i.plan.tokens != nil {
		if err := i.plan.tokens.reach(ctx, step); err != nil {
			return err
		}
	}
	epoch, _ := i.plan.at(step)
	left := int(i.job.Train.Len())
	for lane := range what.Lanes {
		if what.Lane >= 0 && lane != what.Lane {
			continue
		}
		if err := i.lane(epoch, step, lane, &left); err != nil {
			return err
		}
	}
	return nil
}

// lane shows up to left samples of a lane in the step after step steps.
func (i *inspector) lane(epoch, step int64, lane int, left *int) error {
	var from int64
	var err error
	if i.indices, from, err = i.plan.microBatch(step, lane, i.indices); err != nil {
		return err
	}
	for at, number := range i.indices {
		if *left--; *left < 0 {
			return nil
		}
		if err := i.show(epoch, step+1, lane, from+int64(at), number); err != nil {
			return err
		}
	}
	return nil
}

// numbers shows samples by their numbers in the epoch.
func (i *inspector) numbers(ctx context.Context, what Inspection) error {
	first, end, err := i.plan.steps(ctx, what.Epoch)
	if err != nil {
		return err
	}
	for _, number := range what.Numbers {
		if number < 0 || number >= i.job.Train.Len() {
			return mark(ErrInput, fmt.Errorf("an epoch has samples 0 to %d, and no sample %d", i.job.Train.Len()-1, number))
		}
		lane, at := i.plan.order.Place(what.Epoch, number)
		step, err := i.plan.stepOf(first, end, lane, at)
		if err != nil {
			return err
		}
		if err := i.show(what.Epoch, step+1, lane, at, number); err != nil {
			return err
		}
	}
	return nil
}

// stepOf returns the steps done before a lane's sample number at is trained on, in the epoch of the steps [first, end); -1: it is left out.
func (p *plan) stepOf(first, end int64, lane int, at int64) (int64, error) {
	if p.tokens == nil {
		if step := first + at/p.order.BatchSize(); step < end {
			return step, nil
		}
		return -1, nil
	}
	_, _, t := p.tokens.at(first)
	for low, high := int64(0), t.Steps(); low < high; {
		middle := (low + high) / 2
		from, to, err := t.Bounds(lane, middle)
		switch {
		case err != nil:
			return 0, err
		case to == 0 || at < from: // the lane is at its end, or further than the sample
			high = middle
		case at >= to:
			low = middle + 1
		default:
			return first + middle, nil
		}
	}
	return -1, nil
}

func (i *inspector) show(epoch, step int64, lane int, at, number int64) error {
	i.batch.Reset()
	key := objectives.Key{Seed: uint64(i.job.Config.Seed), Epoch: uint64(epoch), Sample: uint64(number)}
	part := i.job.Objectives.Parts[i.job.Objectives.Choose(key)]
	if err := i.job.appendSample(&i.batch, part, i.job.Train, i.plan.order.Pool(epoch, lane, at), number, &i.sample, key); err != nil {
		return err
	}
	return i.f(Inspected{Epoch: epoch, Step: step, Lane: lane, Number: number, Objective: part.Name, Batch: &i.batch})
}
