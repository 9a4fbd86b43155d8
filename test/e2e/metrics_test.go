package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// record is a line of metrics.jsonl: one of a step, of an evaluation, or the summary.
type record struct {
	Step         int64    `json:"step"`
	Epoch        float64  `json:"epoch"`
	Loss         *float64 `json:"loss"`
	LearningRate float64  `json:"learning_rate"`
	GradNorm     *float64 `json:"grad_norm"`
	Skipped      int64    `json:"skipped_steps"`
	Tokens       int64    `json:"num_input_tokens_seen"`
	EvalLoss     *float64 `json:"eval_loss"`
	Runtime      *float64 `json:"train_runtime"`
	Rate         *float64 `json:"tokens_per_second"` // in a step's record alone
}

// records reads a metrics.jsonl; every line of it must be whole.
func (w *workspace) records(output string) []record {
	w.t.Helper()
	var all []record
	for _, line := range strings.SplitAfter(w.read(output+"/metrics.jsonl"), "\n") {
		if line == "" {
			continue
		}
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil || !strings.HasSuffix(line, "\n") {
			w.t.Fatalf("metrics.jsonl: %q: %v", line, err)
		}
		all = append(all, r)
	}
	return all
}

// steps returns the records of the steps, and checks that each step from 1 to n is there once and in order.
func (w *workspace) steps(output string, n int64) []record {
	w.t.Helper()
	var steps []record
	for _, r := range w.records(output) {
		if r.Rate == nil {
			continue
		}
		steps = append(steps, r)
		if r.Step != int64(len(steps)) {
			w.t.Fatalf("%s/metrics.jsonl: record %d of a step is of step %d", output, len(steps), r.Step)
		}
	}
	if int64(len(steps)) != n {
		w.t.Fatalf("%s/metrics.jsonl has %d steps, want %d", output, len(steps), n)
	}
	return steps
}

// evals returns the evaluations' losses by step.
func (w *workspace) evals(output string) map[int64]float64 {
	w.t.Helper()
	found := map[int64]float64{}
	for _, r := range w.records(output) {
		if r.EvalLoss == nil {
			continue
		}
		if _, twice := found[r.Step]; twice {
			w.t.Fatalf("%s/metrics.jsonl has two evaluations of step %d", output, r.Step)
		}
		found[r.Step] = *r.EvalLoss
	}
	return found
}

// sameSteps fails the test where two runs' steps differ in a bit of loss, norm or learning rate, or in the tokens seen so far.
func sameSteps(t testing.TB, want, got []record) {
	t.Helper()
	for i := range want {
		a, b := want[i], got[i]
		if a.Loss == nil || b.Loss == nil || *a.Loss != *b.Loss || *a.GradNorm != *b.GradNorm || a.LearningRate != b.LearningRate {
			t.Fatalf("step %d: loss, norm, rate %v %v %v, want %v %v %v", a.Step, *b.Loss, *b.GradNorm, b.LearningRate, *a.Loss, *a.GradNorm, a.LearningRate)
		}
		if a.Tokens != b.Tokens {
			t.Fatalf("step %d: %d tokens seen, want %d", a.Step, b.Tokens, a.Tokens)
		}
	}
}
