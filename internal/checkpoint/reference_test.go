package checkpoint

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// referenceProgram reads a checkpoint with the libraries whose formats we write.
const referenceProgram = `
import sys, os, dataclasses
from safetensors.numpy import load_file
from transformers import TrainerState
from transformers.trainer_utils import get_last_checkpoint
last = get_last_checkpoint(sys.argv[1])
assert os.path.basename(last) == "checkpoint-20", last
state = TrainerState.load_from_json(os.path.join(last, "trainer_state.json"))
assert state.global_step == 20 and state.epoch == 0.5 and state.max_steps == 100, state
assert state.log_history == [{"loss": 1.5, "step": 20}], state
state.save_to_json(sys.argv[2])
for name, keys in (("model", {"bert.weight"}), ("optimizer", {"exp_avg", "exp_avg_sq"})):
    tensors = load_file(os.path.join(last, name + ".safetensors"))
    assert set(tensors) == keys and all(t.shape == (50,) for t in tensors.values()), tensors
print("read")
`

// Transformers takes our trainer_state.json, writes the same text again, and finds our newest checkpoint.
func TestReferenceReadsCheckpoints(t *testing.T) {
	python := os.Getenv("DDPRUN_REFERENCE_PYTHON")
	if python == "" {
		t.Skip("DDPRUN_REFERENCE_PYTHON names no Python with transformers")
	}
	out, model := t.TempDir(), modelDir(t)
	for _, step := range []int64{10, 20} {
		s := snapshot(t, model, step, 50)
		s.Trainer.MaxSteps = 100
		if err := Save(t.Context(), SaveConfig{OutputDir: out}, s); err != nil {
			t.Fatal(err)
		}
	}
	again := filepath.Join(t.TempDir(), "again.json")
	output, err := exec.Command(python, "-c", referenceProgram, out, again).CombinedOutput()
	if err != nil || !strings.HasSuffix(string(output), "read\n") {
		t.Fatalf("%v: %s", err, output)
	}
	ours, err := os.ReadFile(filepath.Join(out, "checkpoint-20", trainerFile))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile(again)
	if err != nil {
		t.Fatal(err)
	}
	// Python writes an integral float with its ".0".
	if got := strings.ReplaceAll(string(theirs), ": 0.0,", ": 0,"); got != string(ours) {
		t.Errorf("transformers writes\n%s\nours is\n%s", got, ours)
	}
}
