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
}

func (r *rank) close() {
	if r.reduce != nil {
		r.reduce.Close()
	}
	if r.params != nil {
		r.params.Close()
	}
	r.each(ddp.Group.Close)
}

// step runs one optimizer step on this rank's micro-batches.
func (r *rank) step(in *stepInput, learningRate float64) (stepOutcome, error) {
	out := stepOutcome{losses: make([]float64, len(in.counts))}
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
			loss := s.Zeros(torch.Float32)
			terms, indices := r.losses(s, b.Batch, b.part, pass)
			for i, k := range indices {
				if terms[i].Count > 0 {
					loss = s.Add(loss, s.MulScalar(terms[i].Sum, all[k].weight/in.counts[k]))
					out.losses[k] += terms[i].Sum.Value() / in.counts[k]
				}
			}
			if loss.RequiresGrad() { // else nothing in it is labelled
				loss.Backward()
			}
			return nil
		})
		if err != nil {
			return out, err
		}
		r.job.Activity.Tick()
	}
	r.job.Activity.set(awaitGradients)
	var err error
	if out.waited, err = r.reduce.Finish(); err != nil {
		return out, mark(ErrPeer, err)
	}
	out.first = r.reduce.FirstFull().Sub(began)
	r.job.Activity.set(updateWeights)
	if out.gradNorm, err = r.params.GradNorm(); err != nil {
		return out, err
	}
	if math.IsNaN(out.gradNorm) || math.IsInf(out.gradNorm, 0) {
		out.skipped = true
		return out, r.skip(in.step)
	}
	r.nonfinite = 0
	if err := r.params.Clip(out.gradNorm, r.job.Config.MaxGradNorm); err != nil {
		return out, err
	}
	return out, r.opt.Step(learningRate)
}

// nonEmpty returns the micro-batches that hold samples.
func nonEmpty(in *stepInput) []microBatch {
	return slices.DeleteFunc(slices.Clone(in.batches), func(b microBatch) bool { return b.Samples() == 0 })
}

// skip leaves out a step whose gradient is not finite, the same on every rank, and ends the run when too many follow each other.
func (r *rank) skip(step int64) error {
	r.nonfinite++
	name := r.params.FirstNonFinite()
	if limit := r.job.Config.MaxNonfiniteSteps; r.nonfinite >= limit {
		return mark(ErrPermanent, fmt.Errorf("step %d: the gradient is not finite for the %d. time in a row, first in %s; "+
			"a lower learning_rate or longer warmup_steps may help; max_nonfinite_steps is %d", step+1, r.nonfinite, name, limit))
	}
	r.job.Log.Warn().Int64("step", step+1).Str("parameter", name).Msg("the gradient is not finite: step skipped")
	return nil
}
