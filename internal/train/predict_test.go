package train

import (
	"errors"
	"testing"

	"github.com/ddprun/ddprun/objectives"
	"github.com/ddprun/ddprun/shard"
)

// Each masked token is told once, with the sample as it was; the share of right ones is the accuracy.
func TestPredictions(t *testing.T) {
	c := settings(t, goldenModel, "per_device_eval_batch_size=3", "mlm_probability=0.3")
	job := newJob(t, c, 20)
	job.Eval = []EvalSet{{Samples: job.Train}}
	type place struct {
		sample int64
		at     int
	}
	seen := map[place]bool{}
	right := 0
	e, err := Evaluate(job, Watcher{Predicted: func(p Prediction) error {
		at := place{p.Sample, p.At}
		if seen[at] {
			t.Errorf("%v is told twice", at)
		}
		seen[at] = true
		n, err := job.Train.Tokens(0, p.Sample)
		if err != nil || n != len(p.Tokens) || p.At < 0 || p.At >= n || p.Got >= 97 {
			t.Errorf("sample %d of %d tokens: token %d of %d is %d, %v", p.Sample, n, p.At, len(p.Tokens), p.Got, err)
		}
		if p.Tokens[p.At] == p.Got {
			right++
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(e) != 1 || int64(len(seen)) != e[0].Count || e[0].Accuracy != float64(right)/float64(e[0].Count) || e[0].Count < 20 {
		t.Errorf("%d predictions, %d right; the evaluation is %+v", len(seen), right, e)
	}
	// The same places by the objective itself.
	var b objectives.Batch
	labelled := 0
	for i := range job.Train.Len() {
		b.Reset()
		key := objectives.Key{Seed: uint64(c.EvalSeed), Sample: uint64(i)}
		var p predictor
		if err := job.appendSample(&b, job.Objectives.Parts[0], job.Train, shard.Pool{}, i, &p.sample, key); err != nil {
			t.Fatal(err)
		}
		for _, at := range b.Labelled {
			labelled++
			if !seen[place{i, int(at) - 1}] {
				t.Errorf("token %d of sample %d is masked and was not told", at-1, i)
			}
		}
	}
	if labelled != len(seen) {
		t.Errorf("%d tokens are masked, %d were told", labelled, len(seen))
	}
	stop := errors.New("enough")
	if _, err := Evaluate(job, Watcher{Predicted: func(Prediction) error { return stop }}); !errors.Is(err, stop) {
		t.Errorf("the error is %v", err)
	}
}
