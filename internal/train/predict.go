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

// Evaluation is the result of [Evaluate].
type Evaluation struct {
	Loss     float64 // mean over the masked tokens
	Accuracy float64 // share of them whose likeliest token is the right one
	Tokens   int64   // masked tokens
}

// Evaluate computes the loss of job's model on its one evaluation set, in this process alone. Each prediction is given to
// predicted, if that is not nil.
func Evaluate(job *Job, predicted func(Prediction) error) (Evaluation, error) {
	runtime.LockOSThread() // the number of threads belongs to the OS thread, and results depend on it
	defer runtime.UnlockOSThread()
	r := &rank{job: job, data: ddp.NewLocal(1, nil)[0], host: ddp.NewLocal(1, nil)[0]}
	defer r.close()
	if err := r.setUp(beginning{lanes: 1}); err != nil {
		return Evaluation{}, err
	}
	e := predictor{r: r, predicted: predicted, samples: job.Eval[0].Samples}
	order, err := shard.NewEvalOrder(e.samples.Len(), job.Config.PerDeviceEvalBatchSize)
	if err != nil {
		return Evaluation{}, err
	}
	var indices []int64
	for i := range order.Len() {
		indices = order.MicroBatch(i, indices)
		if err := e.run(indices); err != nil {
			return Evaluation{}, err
		}
	}
	n := float64(e.out.Tokens)
	return Evaluation{Loss: e.out.Loss / n, Accuracy: e.out.Accuracy / n, Tokens: e.out.Tokens}, nil
}

// predictor sums up losses and right answers over micro-batches.
type predictor struct {
	r         *rank
	samples   *shard.Samples
	predicted func(Prediction) error
	batch     objectives.Batch
	sample    shard.Sample
	out       Evaluation // sums
}

func (e *predictor) run(indices []int64) error {
	e.batch.Reset()
	c := e.r.job.Config
	for _, index := range indices {
		key := objectives.Key{Seed: uint64(c.EvalSeed), Sample: uint64(index)}
		if err := appendSample(&e.batch, e.r.job.Objective, e.samples, index, &e.sample, key); err != nil {
			return err
		}
	}
	sum, count, err := e.r.evaluateBatch(&e.batch)
	if err != nil {
		return err
	}
	e.out.Loss += sum
	e.out.Tokens += int64(count)
	var got []int64
	err = torch.Do(func(s *torch.Scope) error {
		torch.NoGrad(func() { got = append(got, s.ArgMax(e.r.model.Logits(s, &e.batch)).Int64s()...) })
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
			e.out.Accuracy++
		}
		if e.predicted == nil {
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
