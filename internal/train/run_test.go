package train

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/torch"
)

func run(t testing.TB, job *Job) Result {
	t.Helper()
	result, err := Run(context.Background(), job)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func read(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// A run tells where it is, saves what it was told to, goes on from there to the same end, and leaves no tensor.
func TestRun(t *testing.T) {
	c := settings(t, goldenModel, "max_steps=6", "save_strategy=steps", "save_steps=4", "save_total_limit=1", "seed=9")
	job := newJob(t, c, 33)
	phases := map[Phase]int64{}
	job.Beat = func(phase Phase, step, saved int64) { phases[phase] = max(phases[phase], step) }
	before := torch.Live()
	if result := run(t, job); result.Step != 6 || result.Stopped {
		t.Errorf("the result is %+v", result)
	}
	if live := torch.Live(); live != before {
		t.Errorf("%d tensors outlive the run", live-before)
	}
	if phases[PhaseTrain] != 6 || phases[PhaseCheckpoint] != 6 {
		t.Errorf("the phases came to %v", phases)
	}
	if found, _ := filepath.Glob(filepath.Join(c.OutputDir, "checkpoint-*")); len(found) != 1 || filepath.Base(found[0]) != "checkpoint-6" {
		t.Errorf("with save_total_limit 1 there is %q", found)
	}
	whole := read(t, filepath.Join(c.OutputDir, "model.safetensors"))

	half := settings(t, goldenModel, "max_steps=6", "save_strategy=steps", "save_steps=4", "seed=9")
	stop := make(chan struct{})
	job = newJob(t, half, 33)
	job.Stop = stop
	job.Beat = func(phase Phase, step, _ int64) {
		if phase == PhaseTrain && step == 2 {
			close(stop)
		}
	}
	result := run(t, job)
	if !result.Stopped || result.Step < 2 || result.Step > 4 {
		t.Fatalf("stopped in step 2, the result is %+v", result)
	}
	job = newJob(t, half, 33)
	resumed := int64(-1)
	job.Beat = func(phase Phase, step, saved int64) {
		if phase == PhaseSetup {
			resumed = saved
		}
	}
	run(t, job)
	if resumed != result.Step {
		t.Errorf("the launcher is told of checkpoint %d, not %d", resumed, result.Step)
	}
	if read(t, filepath.Join(half.OutputDir, "model.safetensors")) != whole {
		t.Error("the run that was stopped ended elsewhere")
	}
	if got := tokensSeen(t, half.OutputDir); got != tokensSeen(t, c.OutputDir) || got == 0 {
		t.Errorf("the run that was stopped has seen %v tokens, the other one %v", got, tokensSeen(t, c.OutputDir))
	}
}

// tokensSeen is the last record's count in metrics.jsonl.
func tokensSeen(t testing.TB, dir string) float64 {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(read(t, filepath.Join(dir, "metrics.jsonl"))), "\n")
	var last struct {
		Tokens float64 `json:"num_input_tokens_seen"`
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatal(err)
	}
	return last.Tokens
}

// Whatever ends a run, it leaves no tensor and says of which kind it is.
func TestRunFails(t *testing.T) {
	blocked := settings(t, goldenModel, "max_steps=6", "save_strategy=steps", "save_steps=2")
	if err := os.MkdirAll(filepath.Join(blocked.OutputDir, "metrics.jsonl"), 0o755); err != nil {
		t.Fatal(err)
	}
	foreign := settings(t, goldenModel)
	if err := os.MkdirAll(filepath.Join(foreign.OutputDir, "thesis"), 0o755); err != nil {
		t.Fatal(err)
	}
	held := newJob(t, settings(t, poisonedModel(t), "max_steps=2", "eval_data=heldout.txt"), 33)
	held.Eval = []EvalSet{{Samples: someSamples(t, 5, 11)}}
	for _, c := range []struct {
		name string
		job  *Job
		kind error
		said string
	}{
		{"weights that are NaN", held, ErrPermanent, "step 0: the evaluation's loss is NaN"},
		{"metrics.jsonl is a directory", newJob(t, blocked, 33), ErrPermanent, "metrics.jsonl"},
		{"output_dir of others", newJob(t, foreign, 33), ErrInput, "thesis"},
		{"no model", newJob(t, settings(t, filepath.Join(t.TempDir(), "nothing")), 33), ErrInput, "nothing"},
		{"no full step", newJob(t, settings(t, goldenModel, "dataloader_drop_last=true", "global_batch_size=64"), 33), ErrInput, "dataloader_drop_last"},
	} {
		before := torch.Live()
		_, err := Run(context.Background(), c.job)
		wantKind(t, err, c.kind, c.said)
		if live := torch.Live(); live != before {
			t.Errorf("%s: %d tensors outlive the run", c.name, live-before)
		}
	}
	gone := errors.New("the agent is gone")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(gone)
	before := torch.Live()
	if _, err := Run(ctx, newJob(t, settings(t, goldenModel), 33)); !errors.Is(err, gone) {
		t.Errorf("the error is %v", err)
	}
	if live := torch.Live(); live != before {
		t.Errorf("%d tensors outlive the cancelled run", live-before)
	}
}

// poisonedModel is the golden model with NaN for every weight.
func poisonedModel(t *testing.T) string {
	t.Helper()
	dir := modelCopy(t)
	path := filepath.Join(dir, "model.safetensors")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	header := int(binary.LittleEndian.Uint64(content)) // the file is its length, the header, the data
	for i := 8 + header; i < len(content); i++ {
		content[i] = 0xff
	}
	writeFile(t, path, string(content))
	return dir
}
