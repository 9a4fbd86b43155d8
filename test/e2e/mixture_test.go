package e2e

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/test/kit"
)

// Mixtures give the same losses at 1, 2, 3 and 4 ranks, also in steps and micro-batches in which an objective does not occur; they are told apart, weighted in the
// sum, and evaluated each.
func TestMixturesAtAnyNumberOfRanks(t *testing.T) {
	t.Parallel()
	type mixed map[string]any
	for name, c := range map[string]struct {
		workspace func(testing.TB, int) *workspace
		changes   settings
		terms     map[string]float64 // their loss_weight
	}{
		"text": {newTextWorkspace, settings{"objectives": []any{"span_corruption", mixed{"objective": "reconstruction", "weight": 0.25, "loss_weight": 0.5}},
			"sentence_unit": "line", "text_unit": "file", "sample_unit": nil}, map[string]float64{"span_corruption": 1, "reconstruction": 0.5}},
		"pairs": {newWorkspace, settings{"objectives": []any{"nsp", mixed{"objective": "sop", "loss_weight": 2}},
			"sentence_unit": "line", "sample_unit": nil, "text_unit": "paragraph"}, map[string]float64{"nsp": 1, "sop": 2}},
	} {
		t.Run(name, func(t *testing.T) {
			const steps = 12
			w := c.workspace(t, 29)
			if name == "pairs" {
				for seed, file := range []string{"text.txt", "heldout.txt"} {
					w.write(file, kit.Lines(uint64(seed), 12)+"\n"+kit.Lines(uint64(seed+5), 17))
				}
			}
			changes := c.changes
			changes["max_steps"], changes["save_steps"], changes["eval_data"], changes["eval_steps"] = steps, steps, "heldout.txt", steps
			w.sameOnRanks(changes, steps, 1e-5, 1, 2, 3, 4)
			for line := range strings.Lines(w.read("out2/metrics.jsonl")) {
				entry := map[string]any{}
				if err := json.Unmarshal([]byte(line), &entry); err != nil {
					t.Fatal(err)
				}
				for _, prefix := range []string{"", "eval_"} {
					loss, ok := entry[prefix+"loss"].(float64)
					if !ok {
						continue
					}
					sum := 0.0
					for term, weight := range c.terms {
						x, ok := entry[prefix+term+"_loss"].(float64)
						if !ok && prefix != "" {
							t.Errorf("%s has no %s_loss", line, prefix+term)
						}
						sum += weight * x // 0 in a step without the objective
					}
					if !(math.Abs(sum-loss) <= 1e-9) {
						t.Errorf("the parts of %s are %v in all", line, sum)
					}
				}
			}
			shown := w.run("inspect", "--samples", "20", "train.yaml")
			shown.want(t, 0)
			for term := range c.terms {
				if !strings.Contains(shown.out, ", "+term+", ") {
					t.Errorf("inspect shows no sample of %s:\n%s", term, shown.out)
				}
			}
		})
	}
}

// Objectives that share no samples or no model are refused.
func TestBadMixtures(t *testing.T) {
	for want, objectives := range map[string]any{
		"stands twice":                     []any{"mlm", "mlm"},
		"some are on pairs":                []any{"mlm", "nsp"},
		"no model has heads":               []any{"mlm", "reconstruction"},
		`got "clm"`:                        []any{"clm"},
		"want a list such as":              "mlm",
		"of a weight above 0":              []any{map[string]any{"objective": "mlm", "weight": 0}},
		"objectives.wight":                 []any{map[string]any{"objective": "mlm", "wight": 1}},
		"both have a loss mlm":             []any{"mlm+nsp", "mlm+sop"},
		"want a number, got the text":      []any{map[string]any{"objective": "mlm", "loss_weight": "much"}},
		"ddprun knows loss_weight, object": []any{map[string]any{"name": "mlm"}},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			w := newWorkspace(t, 33)
			w.config("train.yaml", settings{"objectives": objectives, "sample_unit": nil})
			w.refused([]string{"objectives", want}, "--nproc", "2", "train.yaml")
		})
	}
}
