package train

import (
	"context"
	"runtime"
	"slices"

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

// Writing is what a model that writes text makes of one sample.
type Writing struct {
	Sample            int64   // number in the corpus
	Read, Want, Wrote []int64 // what the model read, what it should write, and what it wrote; borrowed
}

// Watcher gets what a model says; a function that is nil is not called.
type Watcher struct {
	Predicted func(Prediction) error // of a masked token
	Written   func(Writing) error    // of a sample that is decoded
}

// Evaluation is the result of [Evaluate]: a term of the loss each, in the objective's order.
type Evaluation []EvaluatedTerm

// EvaluatedTerm is one term of the loss over a text.
type EvaluatedTerm struct {
	Name     string
	Unit     string  // what is counted: masked_tokens, target_tokens or pairs
	Weight   float64 // loss_weight of its objective
	Loss     float64 // mean over Count
	Accuracy float64 // share whose likeliest token or class is the right one
	Count    int64
	// DecodedSamples is the number of samples that the model has written whole, TokenAccuracy the share of their tokens that stand where they
	// shall, and ExactMatch the share of samples where all do.
	DecodedSamples            int64
	TokenAccuracy, ExactMatch float64
}

// Evaluate computes the loss of job's model on its one evaluation set, in this process alone.
func Evaluate(job *Job, watcher Watcher) (Evaluation, error) {
	runtime.LockOSThread() // the number of threads belongs to the OS thread, and results depend on it
	defer runtime.UnlockOSThread()
	r := &rank{job: job, groups: localGroups()}
	defer r.close()
	if err := job.settle(); err != nil {
		return nil, err
	}
	if err := r.setUp(context.Background(), beginning{lanes: 1}); err != nil {
		return nil, err
	}
	e := predictor{r: r, watcher: watcher, samples: job.Eval[0].Samples}
	order, err := shard.NewEvalOrder(e.samples.Len(), job.Config.PerDeviceEvalBatchSize)
	if err != nil {
		return nil, err
	}
	e.sums = make([]evalSums, len(job.terms()))
	var indices []int64
	for i := range order.Len() {
		indices = order.MicroBatch(i, indices)
		for part := range job.Objectives.Parts {
			if err := e.run(order, i, part, indices); err != nil {
				return nil, err
			}
		}
	}
	var out Evaluation
	for k, t := range job.terms() {
		x := e.sums[k]
		term := EvaluatedTerm{Name: t.name, Unit: t.unit(), Weight: t.weight, Loss: x.loss / x.count, Accuracy: x.correct / x.count, Count: int64(x.count)}
		if x.decoded.samples > 0 {
			term.DecodedSamples, term.TokenAccuracy, term.ExactMatch = int64(x.decoded.samples), x.decoded.tokenAccuracy(), x.decoded.exactMatch()
		}
		out = append(out, term)
	}
	return out, nil
}

// predictor sums up losses and right answers over micro-batches.
type predictor struct {
	r       *rank
	samples *shard.Dataset
	watcher Watcher
	batch   objectives.Batch
	sample  shard.Sample
	sums    []evalSums
}

func (e *predictor) run(order *shard.EvalOrder, microBatch int64, part int, indices []int64) error {
	e.batch.Reset()
	if err := e.r.job.appendEvaluation(&e.batch, part, e.samples, order, indices, &e.sample); err != nil {
		return err
	}
	evaluated, err := e.r.evaluateBatch(&e.batch, part)
	if err == nil {
		err = evaluated.settle()
	}
	if err != nil {
		return err
	}
	sums := evaluated.sums
	if e.r.decodes(order, microBatch) {
		if sums[0].decoded, err = e.r.decode(&e.batch, e.written(indices)); err != nil {
			return err
		}
	}
	first := slices.IndexFunc(e.r.job.terms(), func(t term) bool { return t.part == part })
	for k, x := range sums {
		e.sums[first+k].add(x)
	}
	if len(e.batch.Labels)+len(e.batch.Targets) == 0 {
		return nil
	}
	var got []int64
	err = torch.Do(func(s *torch.Scope) error {
		torch.NoGrad(func() {
			tokens, _ := e.r.model.Logits(s, &e.batch)
			got = append(got, s.ToHost(s.ArgMax(tokens)).Int64s()...)
		})
		return nil
	})
	if err != nil {
		return err
	}
	for i, right := range e.batch.Targets {
		if got[i] == right {
			e.sums[first].correct++
		}
	}
	return e.compare(indices, got, first)
}

// written gives the watcher what the model wrote for the samples of a micro-batch.
func (e *predictor) written(indices []int64) func(sample int, want, got []int64) error {
	if e.watcher.Written == nil {
		return nil
	}
	return func(i int, want, got []int64) error {
		return e.watcher.Written(Writing{indices[i], e.batch.IDs[e.batch.Offsets[i]:e.batch.Offsets[i+1]], want, got})
	}
}

// compare counts right answers of a term and hands out the predictions. got corresponds to the batch's labelled tokens.
func (e *predictor) compare(indices, got []int64, term int) error {
	sample := 0
	loaded := -1
	for i, at := range e.batch.Labelled {
		for at >= int64(e.batch.Offsets[sample+1]) {
			sample++
		}
		if got[i] == e.batch.Labels[i] {
			e.sums[term].correct++
		}
		if e.watcher.Predicted == nil || e.r.job.Objectives.Pairs() {
			continue
		}
		if loaded != sample {
			if err := e.samples.At(0, indices[sample], &e.sample); err != nil {
				return err
			}
			loaded = sample
		}
		p := Prediction{Sample: indices[sample], Tokens: e.sample.Tokens, At: int(at) - int(e.batch.Offsets[sample]) - 1, Got: uint32(got[i])}
		if err := e.watcher.Predicted(p); err != nil {
			return err
		}
	}
	return nil
}
