package train

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/model"
	"github.com/ddprun/ddprun/internal/torch"
)

// rank is what a rank holds from set-up to the end: the model, its parameters and optimizer, and the groups.
type rank struct {
	job    *Job
	config *hf.Config // of the model
	model  model.Model
	params *ddp.Params
	opt    *ddp.Optimizer
	reduce *ddp.Reducer
	groups

	best      best
	nonfinite int // steps in a row that were skipped
}

// stepOutcome is what a step tells the metrics.
type stepOutcome struct {
	losses   []float64 // this rank's share of each term's mean; the sum over ranks is the term, and that over terms the loss
	gradNorm float64
	waited   time.Duration // for communication, after this rank's own backward
	first    time.Duration // until the first bucket of gradients was full
	skipped  bool
	late     *lateOutcome // losses, gradNorm and skipped are still to come, on a GPU; nil: they are there
}

func (r *rank) close() {
	if r.reduce != nil {
		r.reduce.Close()
	}
	if r.opt != nil {
		r.opt.Close()
	}
	if r.params != nil {
		r.params.Close()
	}
	r.each(ddp.Group.Close)
}

// step runs one optimizer step on this rank's micro-batches.
func (r *rank) step(in *stepInput, learningRate float64) (stepOutcome, error) {
	if torch.Composed() {
		return r.stepLate(in, learningRate)
	}
	out := stepOutcome{losses: make([]float64, len(in.counts))}
	err := r.gradients(in, &out, func(_ *torch.Scope, k int, sum torch.Tensor) { out.losses[k] += sum.Value() / in.counts[k] })
	if err != nil {
		return out, err
	}
	r.job.Activity.set(updateWeights)
	if out.gradNorm, err = r.params.GradNorm(); err != nil {
		return out, err
	}
	if math.IsNaN(out.gradNorm) || math.IsInf(out.gradNorm, 0) {
		out.skipped = true
		r.nonfinite++
		return out, r.skipped(in.step, r.params.FirstNonFinite())
	}
	r.nonfinite = 0
	if err := r.params.Clip(out.gradNorm, r.job.Config.MaxGradNorm); err != nil {
		return out, err
	}
	return out, r.opt.Step(learningRate)
}

// stepLate is step on a GPU: nothing waits for it.
func (r *rank) stepLate(in *stepInput, learningRate float64) (out stepOutcome, err error) {
	out.losses = make([]float64, len(in.counts))
	late := &lateOutcome{}
	var numbers []torch.Tensor
	defer func() {
		for _, t := range numbers {
			t.Free()
		}
	}()
	err = r.gradients(in, &out, func(s *torch.Scope, k int, sum torch.Tensor) {
		late.terms, numbers = append(late.terms, k), append(numbers, s.Move(s.Numbers(sum)))
	})
	if err != nil {
		return out, err
	}
	r.job.Activity.set(updateWeights)
	c := r.job.Config
	return out, torch.Do(func(s *torch.Scope) error {
		verdict, err := r.opt.StepOnDevice(s, learningRate, c.MaxGradNorm, c.MaxNonfiniteSteps)
		if err != nil {
			return err
		}
		late.numbers = torch.NewFetch(s.Numbers(append(slices.Clip(numbers), verdict)...))
		out.late = late
		return nil
	})
}

// gradients computes the sum of all ranks' gradients in a step. note gets each term's summed loss over a micro-batch.
func (r *rank) gradients(in *stepInput, out *stepOutcome, note func(s *torch.Scope, k int, sum torch.Tensor)) (err error) {
	began := time.Now()
	batches := nonEmpty(in)
	all := r.job.terms()
	r.params.ZeroGrad()
	if len(batches) == 0 {
		r.reduce.Begin()
	}
	r.job.Activity.set(forwardBackward)
	for i, b := range batches {
		if i == len(batches)-1 {
			r.reduce.Begin()
		}
		c := r.job.Config
		pass := model.Pass{Train: true, Checkpointing: c.GradientCheckpointing, LabelSmoothing: c.LabelSmoothingFactor, Dropout: torch.DropoutKey{Seed: uint64(c.Seed) + uint64(b.part)<<48, Step: uint32(in.step), Lane: uint16(b.lane)}}
		err := torch.Do(func(s *torch.Scope) error {
			loss := s.DeviceZeros(torch.Float32)
			terms, indices := r.losses(s, b.Batch, b.part, pass)
			for i, k := range indices {
				if terms[i].Count > 0 {
					loss = s.Add(loss, s.MulScalar(terms[i].Sum, all[k].weight/in.counts[k]))
					note(s, k, terms[i].Sum)
				}
			}
			if loss.RequiresGrad() { // else nothing in it is labelled
				loss.Backward()
			}
			return nil
		})
		if err != nil {
			return fullGPU(err)
		}
		r.job.Activity.Tick()
	}
	r.job.Activity.set(awaitGradients)
	if out.waited, err = r.reduce.Finish(); err != nil {
		return mark(ErrPeer, err)
	}
	out.first = r.reduce.FirstFull().Sub(began)
	return nil
}

// nonEmpty returns the micro-batches that hold samples.
func nonEmpty(in *stepInput) []microBatch {
	return slices.DeleteFunc(slices.Clone(in.batches), func(b microBatch) bool { return b.Samples() == 0 })
}

// skipped tells of a step that was left out since its gradient, first that of the parameter name, is not finite, the same on every rank, and ends the run when too many follow each other.
func (r *rank) skipped(step int64, name string) error {
	if limit := r.job.Config.MaxNonfiniteSteps; r.nonfinite >= limit {
		return mark(ErrPermanent, fmt.Errorf("step %d: the gradient is not finite for the %d. time in a row, first in %s; "+
			"a lower learning_rate or longer warmup_steps may help; max_nonfinite_steps is %d", step+1, r.nonfinite, name, limit))
	}
	r.job.Log.Warn().Int64("step", step+1).Str("parameter", name).Msg("the gradient is not finite: step skipped")
	return nil
}
