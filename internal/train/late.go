package train

import (
	"slices"
	"time"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/torch"
)

// What a step comes to, losses and norm, is known on a GPU only once it has worked through what it was given. The loop does not wait for it but where something is told of it: it goes on, and
// takes the outcomes as they come. Skipping a step and stopping after max_nonfinite_steps of them are decided on the GPU (ddp.Optimizer), so it does not matter how late they are
// read. On the CPU every outcome is known at once.

// lateOutcome is what of a step's outcome is on its way from a GPU.
type lateOutcome struct {
	numbers *torch.Fetch // the losses of micro-batches, then the optimizer's verdict
	terms   []int        // which each of the losses is of
}

// learn waits for what is late of the outcome of the run's step-th step, and ends the run where too many were skipped.
func (r *rank) learn(step int64, counts []float64, out *stepOutcome) error {
	if out.late == nil {
		return nil
	}
	late := out.late
	out.late = nil
	numbers, err := late.numbers.Wait()
	if err != nil {
		return err
	}
	if err := ddp.Failed(r.data); err != nil {
		return mark(ErrPeer, err)
	}
	for i, k := range late.terms {
		out.losses[k] += numbers[i] / counts[k]
	}
	v := r.opt.Verdict(numbers[len(late.terms):])
	out.gradNorm, out.skipped, r.nonfinite = v.GradNorm, v.Skipped, v.Streak
	if v.Skipped {
		return r.skipped(step-1, v.FirstBad)
	}
	return nil
}

// toldStep is a step that is done, or given to a GPU, and not told of yet.
type toldStep struct {
	stepOutcome
	step    int64
	counts  []float64
	samples []laneSamples
}

// copySamples copies what the feed will use again.
func copySamples(of []laneSamples) []laneSamples {
	copies := slices.Clone(of)
	for i := range copies {
		copies[i].numbers = slices.Clone(of[i].numbers)
	}
	return copies
}

// settle tells of the steps whose outcome has come; all: it waits for those that have not, and that is part of the steps' time.
func (o *output) settle(all bool) error {
	if all && slices.ContainsFunc(o.steps, func(s toldStep) bool { return s.late != nil }) {
		o.r.job.Activity.set(o.r.job.awaitGPU())
		began := time.Now()
		defer func() { o.interval.elapsed += time.Since(began) }()
	}
	for len(o.steps) > 0 {
		s := &o.steps[0]
		if s.late != nil && !all && !s.late.numbers.Done() {
			return nil
		}
		if err := o.r.learn(s.step, s.counts, &s.stepOutcome); err != nil {
			return err
		}
		o.interval.add(s)
		if err := o.samples.write(s.step, s.samples, s.skipped); err != nil {
			return err
		}
		o.steps = slices.Delete(o.steps, 0, 1)
	}
	return nil
}
