package train

import (
	"fmt"
	"math"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/model"
	"github.com/ddprun/ddprun/internal/torch"
	"github.com/ddprun/ddprun/objectives"
	"github.com/ddprun/ddprun/shard"
)

// evalResult is the evaluation of one set.
type evalResult struct {
	set  string
	loss float64 // mean over the labelled tokens
}

func (e evalResult) perplexity() float64 { return math.Exp(e.loss) }

// evaluate computes the held-out loss of every set. Masks are drawn from (eval_seed, sample) alone; each micro-batch's sum is gathered
// and added in the corpus's order in float64, so the result does not depend on the number of ranks.
func (r *rank) evaluate(step, saved int64) ([]evalResult, error) {
	var results []evalResult
	for _, set := range r.job.Eval {
		sums, err := r.evaluateSet(set, func() { r.job.Beat(PhaseEvaluate, step, saved) })
		if err != nil {
			return nil, err
		}
		loss, count := 0.0, 0.0
		for i := 0; i < len(sums); i += 2 {
			loss += sums[i]
			count += sums[i+1]
		}
		results = append(results, evalResult{set.Name, loss / count})
	}
	return results, nil
}

// soundEvaluation is an error where a loss is not finite: then neither are the gradients, so the steps that could mend the weights are
// skipped.
func soundEvaluation(step int64, results []evalResult) error {
	for _, e := range results {
		if math.IsNaN(e.loss) || math.IsInf(e.loss, 0) {
			return mark(ErrPermanent, fmt.Errorf("step %d: the evaluation's loss is %v, which no sound weights give: the model is damaged", step, e.loss))
		}
	}
	return nil
}

// evaluateBatch returns a micro-batch's summed loss and count.
func (r *rank) evaluateBatch(batch *objectives.Batch) (sum, count float64, err error) {
	err = torch.Do(func(s *torch.Scope) error {
		torch.NoGrad(func() {
			for _, term := range r.model.Losses(s, batch, model.Pass{}) {
				sum += term.Sum.Value()
				count += float64(term.Count)
			}
		})
		return nil
	})
	return sum, count, err
}

// evaluateSet returns each micro-batch's summed loss and count, in order.
func (r *rank) evaluateSet(set EvalSet, beat func()) ([]float64, error) {
	order, err := shard.NewEvalOrder(set.Samples.Len(), r.job.Config.PerDeviceEvalBatchSize)
	if err != nil {
		return nil, err
	}
	first, end := order.Assign(r.job.World, r.job.Rank)
	most := (order.Len() + int64(r.job.World) - 1) / int64(r.job.World)
	mine := make([]float64, 2*most) // of one length on every rank, as the gathering wants it
	var batch objectives.Batch
	var sample shard.Sample
	var indices []int64
	for i := first; i < end; i++ {
		beat()
		batch.Reset()
		indices = order.MicroBatch(i, indices)
		for _, index := range indices {
			key := objectives.Key{Seed: uint64(r.job.Config.EvalSeed), Sample: uint64(index)}
			if err := appendSample(&batch, r.job.Objective, set.Samples, index, &sample, key); err != nil {
				return nil, err
			}
		}
		if mine[2*(i-first)], mine[2*(i-first)+1], err = r.evaluateBatch(&batch); err != nil {
			return nil, err
		}
	}
	rows, err := ddp.GatherFloat64s(r.data, mine)
	if err != nil {
		return nil, mark(ErrPeer, err)
	}
	var sums []float64
	for rank, row := range rows {
		first, end := order.Assign(r.job.World, rank)
		sums = append(sums, row[:2*(end-first)]...)
	}
	return sums, nil
}
