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
	set   string
	terms []evalTerm // of the objective, in order
}

// evalTerm is one term of the loss over a set.
type evalTerm struct {
	name     string
	tokens   bool    // it is a mean over labelled or target tokens, else over pairs
	weight   float64 // what it is multiplied with in the sum
	loss     float64
	accuracy float64 // of pairs: the share whose likelier class is the right one
	decoded  decoded
}

func (e evalTerm) perplexity() float64 { return math.Exp(e.loss) }

// loss is the weighted sum of the terms.
func (e evalResult) loss() float64 {
	sum := 0.0
	for _, t := range e.terms {
		sum += t.weight * t.loss
	}
	return sum
}

// evaluate computes the held-out loss of every set. Masks and pairs are drawn from (eval_seed, sample) alone; each micro-batch's sums are gathered
// and added in the corpus's order in float64, so the result does not depend on the number of ranks. ErrAskedToStop: some rank was asked to stop, and there is none.
func (r *rank) evaluate(step, saved int64) ([]evalResult, error) {
	var results []evalResult
	for _, set := range r.job.Eval {
		batches, err := r.evaluateSet(set, func() { r.job.Beat(PhaseEvaluate, step, saved) })
		if err != nil {
			return nil, err
		}
		results = append(results, evalResult{set.Name, r.means(batches)})
	}
	return results, nil
}

// means adds up the sums of micro-batches, a term each, and divides them.
func (r *rank) means(batches []evalSums) []evalTerm {
	all := r.job.terms()
	sums := make([]evalSums, len(all))
	for i, x := range batches {
		sums[i%len(all)].add(x)
	}
	terms := make([]evalTerm, len(all))
	for k, sum := range sums {
		terms[k] = evalTerm{all[k].name, all[k].head != pairHead, all[k].weight, sum.loss / sum.count, sum.correct / sum.count, sum.decoded}
	}
	return terms
}

// soundEvaluation is an error where a loss is not finite: then neither are the gradients, so the steps that could mend the weights are
// skipped.
func soundEvaluation(step int64, results []evalResult) error {
	for _, e := range results {
		if math.IsNaN(e.loss()) || math.IsInf(e.loss(), 0) {
			return mark(ErrPermanent, fmt.Errorf("step %d: the evaluation's loss is %v, which no sound weights give: the model is damaged", step, e.loss()))
		}
	}
	return nil
}

// evalSums is what a micro-batch adds to a term: the summed loss, the number of single losses, and how many pairs were told rightly.
type evalSums struct {
	loss, count, correct float64
	decoded              decoded
}

func (e *evalSums) add(x evalSums) {
	e.loss += x.loss
	e.count += x.count
	e.correct += x.correct
	e.decoded.add(x.decoded)
}

// evaluatedBatch is a micro-batch's sums, for each term of its objective.
type evaluatedBatch struct {
	sums []evalSums
	late *torch.Fetch // their losses, where a GPU is still at it; nil: they are there
}

// evaluateBatch evaluates a micro-batch.
func (r *rank) evaluateBatch(batch *objectives.Batch, part int) (e evaluatedBatch, err error) {
	err = torch.Do(func(s *torch.Scope) error {
		torch.NoGrad(func() {
			pass := model.Pass{LabelSmoothing: r.job.Config.LabelSmoothingFactor}
			terms, _ := r.losses(s, batch, part, pass)
			var late []torch.Tensor
			for _, term := range terms {
				sum := evalSums{count: float64(term.Count), correct: float64(term.Correct)}
				switch {
				case term.Count == 0:
				case torch.Composed():
					late = append(late, term.Sum)
				default:
					sum.loss = term.Sum.Value()
				}
				e.sums = append(e.sums, sum)
			}
			if late != nil {
				e.late = torch.NewFetch(s.Numbers(late...))
			}
		})
		return nil
	})
	return e, err
}

// settle waits for the losses that are late.
func (e *evaluatedBatch) settle() error {
	if e.late == nil {
		return nil
	}
	losses, err := e.late.Wait()
	e.late = nil
	for i := range e.sums {
		if err == nil && e.sums[i].count > 0 {
			e.sums[i].loss, losses = losses[0], losses[1:]
		}
	}
	return err
}

// evaluateSet returns each micro-batch's sums, a term each, in order; or, on every rank, ErrAskedToStop where a request to stop has cut some rank's part short.
func (r *rank) evaluateSet(set EvalSet, beat func()) ([]evalSums, error) {
	order, err := shard.NewEvalOrder(set.Samples.Len(), r.job.Config.PerDeviceEvalBatchSize)
	if err != nil {
		return nil, err
	}
	first, end := order.Assign(r.job.World, r.job.Rank)
	most := (order.Len() + int64(r.job.World) - 1) / int64(r.job.World)
	terms := int64(len(r.job.terms()))
	var evaluated []evaluatedBatch
	defer func() {
		for _, e := range evaluated {
			if e.late != nil {
				e.late.Drop()
			}
		}
	}()
	var batch objectives.Batch
	var sample shard.Sample
	var indices []int64
	asked := []float64{0}
	for i := first; i < end; i++ {
		if r.job.stopping() {
			asked[0] = 1 // what is missing is not looked at
			break
		}
		beat()
		r.job.Activity.set(evaluateBatches)
		indices = order.MicroBatch(i, indices)
		for part := range r.job.Objectives.Parts { // every sample is evaluated for each objective, so that no share of chance lies in it
			batch.Reset()
			if err := r.job.appendEvaluation(&batch, part, set.Samples, order, indices, &sample); err != nil {
				return nil, err
			}
			e, err := r.evaluateBatch(&batch, part)
			if err != nil {
				return nil, err
			}
			evaluated = append(evaluated, e)
			if r.decodes(order, i) {
				if e.sums[0].decoded, err = r.decode(&batch, nil); err != nil {
					return nil, err
				}
			}
		}
	}
	const numbers = 7                              // of evalSums
	mine := make([]float64, 0, numbers*terms*most) // of one length on every rank, as the gathering wants it
	for i := range evaluated {
		if err := evaluated[i].settle(); err != nil {
			return nil, err
		}
		for _, x := range evaluated[i].sums {
			mine = append(mine, x.loss, x.count, x.correct, x.decoded.tokens, x.decoded.rightTokens, x.decoded.samples, x.decoded.rightSamples)
		}
	}
	r.job.Activity.set(gatherEval)
	rows, err := ddp.GatherFloat64s(r.sums, append(asked, mine[:cap(mine)]...))
	if err != nil {
		return nil, mark(ErrPeer, err)
	}
	for _, row := range rows {
		if row[0] > 0 {
			return nil, ErrAskedToStop
		}
	}
	var all []evalSums
	for rank, row := range rows {
		row = row[1:]
		first, end := order.Assign(r.job.World, rank)
		for i := range terms * (end - first) {
			x := row[numbers*i:]
			all = append(all, evalSums{x[0], x[1], x[2], decoded{x[3], x[4], x[5], x[6]}})
		}
	}
	return all, nil
}

// appendEvaluation appends the samples of an evaluation's micro-batch as one objective makes them.
func (job *Job) appendEvaluation(b *objectives.Batch, part int, samples *shard.Dataset, order *shard.EvalOrder, indices []int64, scratch *shard.Sample) error {
	for _, index := range indices {
		key := objectives.Key{Seed: uint64(job.Config.EvalSeed), Sample: uint64(index)}
		if err := job.appendSample(b, job.Objectives.Parts[part], samples, order.Pool(index), index, scratch, key); err != nil {
			return err
		}
	}
	return nil
}
