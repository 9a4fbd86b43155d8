package train

import (
	"runtime"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/torch"
	"github.com/ddprun/ddprun/objectives"
	"github.com/ddprun/ddprun/shard"
)

// Prediction is what the model says at one masked token.
type Prediction struct {
	Sample int64    // number in the corpus
	Tokens []uint32 // the sample as it was, without special tokens; borrowed
	At     int      // index of the masked token in Tokens
	Got    uint32   // the likeliest token
}

// Evaluation is the result of [Evaluate]: a term of the loss each, in the objective's order.
type Evaluation []EvaluatedTerm

// EvaluatedTerm is one term of the loss over a text.
type EvaluatedTerm struct {
	Name     string
	Tokens   bool    // it is about masked tokens, else about pairs of sentences
	Loss     float64 // mean over Count
	Accuracy float64 // share whose likeliest token or class is the right one
	Count    int64   // masked tokens, or pairs
}

// Evaluate computes the loss of job's model on its one evaluation set, in this process alone. Each prediction of a token is given to
// predicted, if that is not nil.
func Evaluate(job *Job, predicted func(Prediction) error) (Evaluation, error) {
	runtime.LockOSThread() // the number of threads belongs to the OS thread, and results depend on it
	defer runtime.UnlockOSThread()
	r := &rank{job: job, data: ddp.NewLocal(1, nil)[0], host: ddp.NewLocal(1, nil)[0]}
	defer r.close()
	if err := r.setUp(beginning{lanes: 1}); err != nil {
		return nil, err
	}
	e := predictor{r: r, predicted: predicted, samples: job.Eval[0].Samples}
	order, err := shard.NewEvalOrder(e.samples.Len(), job.Config.PerDeviceEvalBatchSize)
	if err != nil {
		return nil, err
	}
	e.sums = make([]evalSums, len(job.Objective.Terms()))
	var indices []int64
	for i := range order.Len() {
		indices = order.MicroBatch(i, indices)
		if err := e.run(order, indices); err != nil {
			return nil, err
		}
	}
	var out Evaluation
	heads := headsOf(job.Config)
	for k, name := range job.Objective.Terms() {
		x := e.sums[k]
		out = append(out, EvaluatedTerm{name, heads.Tokens && k == 0, x.loss / x.count, x.correct / x.count, int64(x.count)})
	}
	return out, nil
}

// predictor sums up losses and right answers over micro-batches.
type predictor struct {
	r         *rank
	samples   *shard.Samples
	predicted func(Prediction) error
	batch     objectives.Batch
	sample    shard.Sample
	sums      []evalSums
}

func (e *predictor) run(order *shard.EvalOrder, indices []int64) error {
	e.batch.Reset()
	if err := e.r.job.appendEvaluation(&e.batch, e.samples, order, indices, &e.sample); err != nil {
		return err
	}
	sums, err := e.r.evaluateBatch(&e.batch)
	if err != nil {
		return err
	}
	for k, x := range sums {
		e.sums[k].add(x)
	}
	if len(e.batch.Labels) == 0 {
		return nil
	}
	var got []int64
	err = torch.Do(func(s *torch.Scope) error {
		torch.NoGrad(func() {
			tokens, _ := e.r.model.Logits(s, &e.batch)
			got = append(got, s.ArgMax(tokens).Int64s()...)
		})
		return nil
	})
	if err != nil {
		return err
	}
	return e.compare(indices, got)
}

// compare counts right answers and hands out the predictions. got corresponds to the batch's labelled tokens.
func (e *predictor) compare(indices, got []int64) error {
	sample := 0
	loaded := -1
	for i, at := range e.batch.Labelled {
		for at >= int64(e.batch.Offsets[sample+1]) {
			sample++
		}
		if got[i] == e.batch.Labels[i] {
			e.sums[0].correct++
		}
		if e.predicted == nil || e.r.job.Objective.Pairs() {
			continue
		}
		if loaded != sample {
			if err := e.samples.At(indices[sample], &e.sample); err != nil {
				return err
			}
			loaded = sample
		}
		p := Prediction{Sample: indices[sample], Tokens: e.sample.Tokens, At: int(at) - int(e.batch.Offsets[sample]) - 1, Got: uint32(got[i])}
		if err := e.predicted(p); err != nil {
			return err
		}
	}
	return nil
}
