package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What a run writes loads in transformers without a missing key or a warning: a checkpoint and the final model. (That it computes the
// same there is a test of internal/train.)
func TestTransformersLoadsIt(t *testing.T) {
	python := os.Getenv("DDPRUN_REFERENCE_PYTHON")
	if python == "" {
		t.Skip("DDPRUN_REFERENCE_PYTHON is not set: make test sets it to a Python with transformers")
	}
	t.Parallel()
	w := newWorkspace(t, 33)
	w.config("train.yaml", settings{"max_steps": 2})
	w.run("--nproc", "2", "train.yaml").want(t, 0)
	tools, err := filepath.Abs("../../tools/golden")
	if err != nil {
		t.Fatal(err)
	}
	check := exec.Command(python, "-c", `import sys, transformers
sys.path.insert(0, sys.argv[1])
import make_model_golden as tool
tool.golden.deterministic()
faults = [tool.check(directory, None) for directory in sys.argv[2:]]
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[2])
ids = tokenizer("ban ben")["input_ids"]
assert ids == [2, tokenizer.convert_tokens_to_ids("ban"), tokenizer.convert_tokens_to_ids("ben"), 3], ids
sys.exit(any(faults))`, tools, w.path("out"), w.path("out/checkpoint-2"))
	if said, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
}
