package train

import (
	"context"
	"encoding/json"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An interval's loss is the mean over its steps that were not skipped; numbers that JSON does not have become null.
func TestIntervals(t *testing.T) {
	c := settings(t, goldenModel)
	job := newJob(t, c, 33)
	r := oneRank(t, job)
	p, err := newPlan(c, 33, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := begin(context.Background(), job); err != nil { // makes output_dir
		t.Fatal(err)
	}
	out, err := openOutput(t.Context(), r, p, beginning{lanes: 2})
	if err != nil {
		t.Fatal(err)
	}
	nan := math.NaN()
	add := func(loss float64, skipped bool) {
		out.count(stepOutcome{losses: []float64{loss}, gradNorm: loss, waited: time.Second, skipped: skipped}, &stepInput{tokens: 10, counts: []float64{1}}, time.Second, 4*time.Second, 0.5)
	}
	add(2, false)
	add(nan, true)
	add(4, false)
	if err := out.logStep(3); err != nil {
		t.Fatal(err)
	}
	add(nan, true)
	if err := out.logStep(4); err != nil {
		t.Fatal(err)
	}
	if err := out.logEval(4, []evalResult{
		{"", []evalTerm{{name: "mlm", tokens: true, weight: 1, loss: 1000}}}, {"b", []evalTerm{{name: "mlm", tokens: true, weight: 1, loss: 2}, {name: "nsp", weight: 1, loss: 0.5, accuracy: 0.75}}}, {"c", []evalTerm{
			{name: "reconstruction", tokens: true, weight: 1, loss: 1, decoded: decoded{tokens: 8, rightTokens: 4, samples: 2, rightSamples: 0}}}}}, time.Second); err != nil {
		t.Fatal(err)
	}
	if err := out.close(); err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	for _, line := range strings.Split(strings.TrimSpace(read(t, filepath.Join(c.OutputDir, "metrics.jsonl"))), "\n") {
		entry := map[string]any{}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		got = append(got, entry)
	}
	if len(got) != 3 || len(out.history) != 3 {
		t.Fatalf("%d records, %d in the history", len(got), len(out.history))
	}
	for i, want := range []map[string]any{
		{"step": 3.0, "loss": 3.0, "grad_norm": 4.0, "learning_rate": 0.5, "skipped_steps": 1.0, "tokens_per_second": 2.5, "seconds_per_step": 4.0,
			"communication_wait_share": 0.25, "data_wait_share": 0.25, "num_input_tokens_seen": 30.0},
		{"step": 4.0, "loss": nil, "grad_norm": nil, "skipped_steps": 1.0, "num_input_tokens_seen": 40.0},
		{"step": 4.0, "eval_loss": 1000.0, "eval_perplexity": nil, "eval_b_loss": 2.5, "eval_b_mlm_loss": 2.0, "eval_b_nsp_loss": 0.5, "eval_b_nsp_accuracy": 0.75, "eval_b_perplexity": math.Exp(2), "eval_c_token_accuracy": 0.5, "eval_c_exact_match": 0.0, "eval_runtime": 1.0},
	} {
		for key, value := range want {
			if got[i][key] != value {
				t.Errorf("record %d: %s is %v, want %v", i, key, got[i][key], value)
			}
		}
	}
}

func TestPeakRSS(t *testing.T) {
	if mib := peakRSSMiB(); mib < 10 || mib > 1<<20 {
		t.Errorf("%d MiB", mib)
	}
}
