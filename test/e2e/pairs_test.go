package e2e

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/test/kit"
)

// story makes n documents of 2 to 6 sentences, which a hard-wrapped paragraph holds with full stops between.
func story(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 0))
	var b strings.Builder
	for range n {
		for range 2 + r.IntN(5) {
			b.WriteString(strings.ToUpper(kit.Word(r.IntN(40))[:1]) + "en")
			for k := range 2 + r.IntN(12) {
				b.WriteString(map[bool]string{true: "\n", false: " "}[k%5 == 4] + kit.Word(r.IntN(40)))
			}
			b.WriteString(". ")
		}
		b.WriteString("\n\n")
	}
	return b.String()
}

// Pairs of sentences that Punkt finds, with both losses: the same at 1, 2, 3 and 4 ranks, told apart in metrics.jsonl; a run that is made longer goes on with the same pairs.
func TestPairsAtAnyNumberOfRanks(t *testing.T) {
	t.Parallel()
	const steps = 12
	w := newWorkspace(t, 1)
	w.write("text.txt", story(1, 13))
	w.write("heldout.txt", story(2, 5))
	changes := settings{"objective": "mlm+nsp", "text_unit": "paragraph", "sample_unit": nil, "max_steps": steps, "save_steps": 5, "eval_data": "heldout.txt", "eval_steps": steps}
	want := w.sameOnRanks(changes, steps, 1e-6, 1, 2, 3, 4)
	var step, evaluation map[string]any
	for line := range strings.Lines(w.read("out2/metrics.jsonl")) {
		entry := map[string]any{}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		if entry["mlm_loss"] != nil {
			step = entry
		}
		if entry["eval_loss"] != nil {
			evaluation = entry
		}
	}
	for _, c := range []struct {
		entry map[string]any
		sum   string
		parts []string
	}{{step, "loss", []string{"mlm_loss", "nsp_loss"}}, {evaluation, "eval_loss", []string{"eval_mlm_loss", "eval_nsp_loss"}}} {
		sum := 0.0
		for _, part := range c.parts {
			x, ok := c.entry[part].(float64)
			if !ok || x <= 0 {
				t.Errorf("%s is %v", part, c.entry[part])
			}
			sum += x
		}
		if x, _ := c.entry[c.sum].(float64); math.Abs(x-sum) > 1e-9 {
			t.Errorf("%s is %v, its parts are %v", c.sum, c.entry[c.sum], sum)
		}
	}
	if x, ok := evaluation["eval_nsp_accuracy"].(float64); !ok || x <= 0 || x > 1 {
		t.Errorf("eval_nsp_accuracy is %v", evaluation["eval_nsp_accuracy"])
	}

	changes["output_dir"] = "resumed"
	changes["max_steps"] = 5
	w.config("train.yaml", changes)
	w.run("--nproc", "2", "train.yaml").want(t, 0)
	changes["max_steps"] = steps
	w.config("train.yaml", changes)
	w.run("--nproc", "2", "train.yaml").want(t, 0)
	again := w.steps("resumed", steps)
	for i := 5; i < steps; i++ {
		if again[i].Tokens != want[i].Tokens {
			t.Errorf("step %d of the resumed run has seen %d tokens, want %d", i+1, again[i].Tokens, want[i].Tokens)
		}
	}
	if !strings.Contains(w.read("out1/config.json"), `"BertForPreTraining"`) {
		t.Error("the saved model does not name its class")
	}
}
