package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/hf"
)

// A run whose held-out loss gets worse stops early, on all ranks, keeps its best checkpoint beside the newest, and ends with the best model; the same command
// again changes nothing, and a run that is interrupted in between comes to the same end.
func TestEarlyStopping(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, 33)
	w.write("heldout.txt", w.read("text.txt")) // gets better at first
	changes := settings{"eval_data": "heldout.txt", "max_steps": 200, "eval_steps": 4, "save_steps": 4, "save_total_limit": 1, "learning_rate": 3e-2,
		"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 20, "load_best_model_at_end": true, "early_stopping_patience": 3, "output_dir": "whole", "max_grad_norm": 0}
	w.config("train.yaml", changes)
	r := w.run("--nproc", "2", "train.yaml")
	r.want(t, 0)
	if !strings.Contains(r.stderr, "early stopping") || !strings.Contains(r.stderr, "the best model is loaded") {
		t.Errorf("it does not say so:\n%s", r.stderr)
	}
	evals := w.evals("whole")
	best, last := int64(-1), int64(0)
	for step, loss := range evals {
		last = max(last, step)
		if step > 0 && (best < 0 || loss < evals[best]) {
			best = step
		}
	}
	if last >= 200 || last != best+12 {
		t.Fatalf("the best evaluation is that of step %d, the last one that of step %d: %v", best, last, evals)
	}
	for _, step := range []int64{best, last} {
		if _, err := filepath.Glob(w.path(fmt.Sprintf("whole/checkpoint-%d", step))); err != nil {
			t.Error(err)
		}
	}
	if w.read("whole/model.safetensors") != w.read(fmt.Sprintf("whole/checkpoint-%d/model.safetensors", best)) {
		t.Error("the final model is not the best one")
	}
	var state struct {
		Step int64  `json:"best_global_step"`
		Path string `json:"best_model_checkpoint"`
	}
	if err := json.Unmarshal([]byte(w.read(fmt.Sprintf("whole/checkpoint-%d/trainer_state.json", last))), &state); err != nil || state.Step != best ||
		!strings.HasSuffix(state.Path, fmt.Sprintf("checkpoint-%d", best)) {
		t.Errorf("trainer_state.json says %+v, %v; best is step %d", state, err, best)
	}
	model := w.read("whole/model.safetensors")
	w.run("--nproc", "2", "train.yaml").want(t, 0)
	if w.read("whole/model.safetensors") != model || len(w.evals("whole")) != len(evals) {
		t.Error("the same command again has gone on")
	}

	changes["output_dir"], changes["max_steps"] = "halves", best+4
	w.config("train.yaml", changes)
	w.run("--nproc", "2", "train.yaml").want(t, 0)
	changes["max_steps"] = 200
	w.config("train.yaml", changes)
	w.run("--nproc", "2", "train.yaml").want(t, 0)
	if w.read("halves/model.safetensors") != model {
		t.Error("in two parts the run has ended with another model")
	}

	changes["metric_for_best_model"], changes["output_dir"] = "accuracy", "other"
	w.config("train.yaml", changes)
	w.refused([]string{"metric_for_best_model", "accuracy", "eval_perplexity"}, "--nproc", "2", "train.yaml")
	changes["metric_for_best_model"], changes["save_steps"] = nil, 6
	w.config("train.yaml", changes)
	w.refused([]string{"load_best_model_at_end", "save_steps"}, "--nproc", "2", "train.yaml")
}

// tensors returns the bytes of a safetensors file's tensors by name.
func (w *workspace) tensors(path string) map[string]string {
	w.t.Helper()
	file, err := hf.OpenSafetensors(w.path(path))
	if err != nil {
		w.t.Fatal(err)
	}
	defer file.Close()
	found := map[string]string{}
	for _, name := range file.Names() {
		tensor, _ := file.Tensor(name)
		found[name] = string(tensor.Data)
	}
	return found
}

// Evaluations and checkpoints by epochs come at the ends of epochs.
func TestEpochStrategies(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, 33) // 5 steps an epoch
	w.config("train.yaml", settings{"eval_data": "heldout.txt", "eval_strategy": "epoch", "save_strategy": "epoch", "max_steps": 12})
	w.run("--nproc", "2", "train.yaml").want(t, 0)
	evals := w.evals("out")
	for _, step := range []int64{0, 5, 10, 12} {
		if _, found := evals[step]; !found {
			t.Errorf("no evaluation after step %d", step)
		}
	}
	found, _ := filepath.Glob(w.path("out/checkpoint-*"))
	if len(evals) != 4 || len(found) != 3 {
		t.Errorf("%d evaluations, checkpoints %q", len(evals), found)
	}
}

// Layers that are computed again in backward change nothing but the memory that a run takes, also where the embeddings are frozen.
func TestGradientCheckpointing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		workspace func(testing.TB, int) *workspace
		changes   settings
	}{
		"bert": {newWorkspace, settings{}}, "frozen": {newWorkspace, settings{"freeze": "embeddings"}},
		"nsp": {newWorkspace, settings{"objective": "mlm+nsp", "sample_unit": nil, "sentence_unit": "line", "text_unit": "file", "nsp_negatives": "any"}},
	} {
		w := c.workspace(t, 33)
		c.changes["max_steps"] = 8
		for _, on := range []bool{false, true} {
			c.changes["gradient_checkpointing"], c.changes["output_dir"] = on, fmt.Sprint("out-", on)
			w.config("train.yaml", c.changes)
			w.run("--nproc", "2", "train.yaml").want(t, 0)
		}
		if w.read("out-true/model.safetensors") != w.read("out-false/model.safetensors") {
			t.Errorf("%s: the model is another one with gradient_checkpointing", name)
		}
	}
}

// In bfloat16 a run is the same at any number of ranks, near to float32's and not equal to it; a run does not go on in another precision.
func TestBF16(t *testing.T) {
	t.Parallel()
	for name, workspace := range map[string]func(testing.TB, int) *workspace{"mlm": newWorkspace, "reconstruction": newTextWorkspace} {
		w := workspace(t, 33)
		changes := settings{"objective": name, "max_steps": 8, "eval_data": "heldout.txt", "eval_steps": 8}
		var exact []record
		for _, c := range []struct {
			bf16  bool
			ranks int
		}{{false, 1}, {true, 1}, {true, 2}, {true, 3}} {
			changes["bf16"], changes["output_dir"] = c.bf16, fmt.Sprintf("out%d-%v", c.ranks, c.bf16)
			w.config("train.yaml", changes)
			w.run("--nproc", fmt.Sprint(c.ranks), "train.yaml").want(t, 0)
			got := w.steps(fmt.Sprintf("out%d-%v", c.ranks, c.bf16), 8)
			if !c.bf16 {
				exact = got
				continue
			}
			same := 0
			for i := range got {
				d := math.Abs(*got[i].Loss / *exact[i].Loss - 1)
				if !(d <= 2e-2) {
					t.Errorf("%s: the loss of step %d is %v, in float32 %v", name, i+1, *got[i].Loss, *exact[i].Loss)
				}
				if d == 0 {
					same++
				}
			}
			if same == len(got) {
				t.Errorf("%s: bf16 makes no difference", name)
			}
			if c.ranks == 1 {
				continue
			}
			for i, one := range w.steps("out1-true", 8) {
				if d := math.Abs(*got[i].Loss / *one.Loss - 1); !(d <= 1e-3) { // a last bit more or less rounds to another bfloat16
					t.Errorf("%s: %d ranks: the loss of step %d differs by %.2g from one rank's", name, c.ranks, i+1, d)
				}
			}
		}
		changes["bf16"], changes["max_steps"] = false, 10
		w.config("train.yaml", changes)
		w.refused([]string{"bf16: true then, false now"}, "--nproc", "3", "train.yaml")
	}
}

// Frozen parameters stay what they were, whatever the number of ranks, and a run goes on without their moments.
func TestFreeze(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, 33)
	changes := settings{"freeze": []string{`embeddings\.`, `layer\.0\.attention`}, "max_steps": 8, "save_steps": 4}
	w.sameOnRanks(changes, 8, 1e-6, 1, 2, 3)
	before, after := w.tensors("model/model.safetensors"), w.tensors("out2/model.safetensors")
	moments := w.tensors("out2/checkpoint-8/optimizer.safetensors")
	for name, value := range after {
		frozen := strings.Contains(name, "embeddings.") || strings.Contains(name, "layer.0.attention")
		if (before[name] == value) != frozen {
			t.Errorf("%s: frozen %v, changed %v", name, frozen, before[name] != value)
		}
		if _, has := moments[name+".exp_avg"]; has == frozen {
			t.Errorf("%s: frozen %v, moments %v", name, frozen, has)
		}
	}
	changes["output_dir"], changes["max_steps"] = "resumed", 4
	w.config("train.yaml", changes)
	w.run("--nproc", "2", "train.yaml").want(t, 0)
	changes["max_steps"] = 8
	w.config("train.yaml", changes)
	w.run("--nproc", "2", "train.yaml").want(t, 0)
	changes["freeze"], changes["output_dir"] = "encoder.layers", "other"
	w.config("train.yaml", changes)
	w.refused([]string{"freeze", "encoder.layers", "no parameter"}, "--nproc", "2", "train.yaml")
}
