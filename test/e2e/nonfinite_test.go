package e2e

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/test/kit"
)

// poison puts a NaN at an element of a tensor of the model's weights.
func (w *workspace) poison(tensor string, element int) {
	w.t.Helper()
	const path = "model/model.safetensors"
	content := []byte(w.read(path))
	header := 8 + int(binary.LittleEndian.Uint64(content))
	var tensors map[string]struct {
		Offsets []int `json:"data_offsets"`
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(content[8:header], &raw); err != nil {
		w.t.Fatal(err)
	}
	delete(raw, "__metadata__")
	text, _ := json.Marshal(raw)
	if err := json.Unmarshal(text, &tensors); err != nil {
		w.t.Fatal(err)
	}
	at := header + tensors[tensor].Offsets[0] + 4*element
	binary.LittleEndian.PutUint32(content[at:], math.Float32bits(float32(math.NaN())))
	w.write(path, string(content))
}

// A gradient that is not finite at some steps: all ranks skip those and name the parameter, the rest of the run is as if they had
// not been, and the weights stay finite. Only samples of 40 tokens meet the poisoned position.
func TestStepsThatAreNotFiniteAreSkipped(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, 32)
	w.write("text.txt", w.read("text.txt")+strings.Repeat(kit.Word(7)+" ", 38)+"\n")
	const position = "bert.embeddings.position_embeddings.weight"
	w.poison(position, 39*32)
	var want []record
	for _, ranks := range []string{"1", "2"} {
		output := "out" + ranks
		w.config("train.yaml", settings{"output_dir": output})
		w.run("--nproc", ranks, "--tee", "all", "train.yaml").want(t, 0, "step skipped", "parameter=")
		steps := w.steps(output, 20)
		skipped := 0
		for _, r := range steps {
			if r.Skipped > 0 {
				skipped++
				if r.Loss != nil || r.GradNorm != nil {
					t.Errorf("step %d was skipped with loss %v", r.Step, r.Loss)
				}
			}
		}
		if skipped != 4 {
			t.Errorf("%s ranks: %d steps were skipped in 4 epochs with one such sample", ranks, skipped)
		}
		if ranks == "2" && !strings.Contains(w.read(output+"/logs/attempt_0/1/stderr.log"), "step skipped") {
			t.Error("rank 1 does not say that it skipped a step")
		}
		if want == nil {
			want = steps
		}
		for i := range steps {
			if a, b := steps[i].Loss, want[i].Loss; (a == nil) != (b == nil) || a != nil && math.Abs(*a / *b - 1) > 1e-6 {
				t.Errorf("step %d: loss %v and %v at 1 and 2 ranks", i+1, a, b)
			}
		}
		w.finite(output, position, 39)
	}
}

// finite checks all weights but a row of one tensor, which was poisoned.
func (w *workspace) finite(output, except string, row int) {
	w.t.Helper()
	for _, tensor := range w.weights(output) {
		data := make([]float32, tensor.Elements())
		if err := tensor.AsFloat32(data); err != nil {
			w.t.Fatal(err)
		}
		for i, x := range data {
			inRow := tensor.Name == except && i/int(tensor.Shape[1]) == row
			if !inRow && (math.IsNaN(float64(x)) || math.IsInf(float64(x), 0)) {
				w.t.Fatalf("%s: element %d of %s is %v", output, i, tensor.Name, x)
			}
		}
	}
}

// A run in which nothing is finite any more ends after max_nonfinite_steps with a plain error, and is not started again.
func TestRunThatStaysNotFiniteEnds(t *testing.T) {
	for _, bad := range []struct {
		name  string
		set   settings
		spoil bool
		step  string
	}{
		{"learning rate", settings{"learning_rate": 1e30, "warmup_steps": 0}, false, "step 4"},
		{"weights", settings{"max_nonfinite_steps": 5}, true, "step 5"},
	} {
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			w := newWorkspace(t, 33)
			if bad.spoil {
				w.poison("bert.encoder.layer.1.output.dense.bias", 3)
			}
			w.config("train.yaml", bad.set)
			r := w.run("--nproc", "2", "--max-restarts", "3", "train.yaml")
			r.want(t, 1, "step skipped", bad.step, "not finite", "first in", "max_nonfinite_steps", "a restart would fail the same way")
			if strings.Contains(r.stderr, "goroutine ") {
				t.Errorf("the error is a stack:\n%s", r.stderr)
			}
			if strings.Contains(r.stderr, "starting the workers again") {
				t.Error("it was started again")
			}
			if kept := w.tree(); kept["out/model.safetensors"] != "" {
				t.Error("a model was saved")
			}
		})
	}
}
