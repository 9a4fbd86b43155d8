package train

import (
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ddprun/ddprun/internal/checkpoint"
	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/torch"
)

// A rank that loads a checkpoint has the parameters, the moments and AdamW's count of the rank that saved it, bit for bit.
func TestCheckpointRoundTrip(t *testing.T) {
	c := settings(t, goldenModel, "max_steps=5", "save_strategy=steps")
	job := newJob(t, c, 33)
	run(t, job)
	d, err := checkpoint.Decide(context.Background(), c.OutputDir, checkpoint.ResumeAuto, false)
	if err != nil || d.Resume == nil {
		t.Fatal(d, err)
	}
	if s := d.Resume.State; s.Step != 5 || s.OptimizerSteps != 5 || s.Lanes != 2 || s.Epoch != 0 || s.EpochStep != 5 || s.Seeds.Seed != 42 {
		t.Errorf("the state is %+v", s)
	}
	if tr := d.Resume.Trainer; tr.GlobalStep != 5 || tr.MaxSteps != 5 || len(tr.LogHistory) != 5 || tr.NumInputTokensSeen == 0 {
		t.Errorf("trainer_state.json is %+v", tr)
	}
	original, r := oneRank(t, job), oneRank(t, newJob(t, c, 33))
	if steps, err := r.loadCheckpoint(context.Background(), d.Resume); err != nil || steps != 5 {
		t.Fatalf("%d steps, %v", steps, err)
	}
	values, moments := 0, 0
	for i, s := range r.params.States() {
		if !slices.Equal(s.Value, original.params.States()[i].Value) {
			values++
		}
		if slices.Max(s.ExpAvgSq) > 0 {
			moments++
		}
	}
	if all := len(r.params.List()); values < all-1 || moments < all-1 { // token types that do not occur may stay
		t.Errorf("of %d parameters %d have moved, %d have moments", all, values, moments)
	}
	// Saved again, it is the same file.
	again := settings(t, goldenModel, "max_steps=5", "save_strategy=steps")
	r.job.Config = again
	p, err := newPlan(again, 33, 2)
	if err != nil {
		t.Fatal(err)
	}
	s := newSaver(t.Context(), r, p, 0)
	if err := s.start(5, 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.writer.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"model.safetensors", "optimizer.safetensors", "config.json"} {
		if read(t, filepath.Join(again.OutputDir, "checkpoint-5", name)) != read(t, filepath.Join(d.Resume.Path, name)) {
			t.Errorf("%s is another one when it is saved again", name)
		}
	}
}

// What a run writes, a checkpoint and the final model, gives the same logits in transformers as here, and loads there without a missing
// key or a warning.
func TestTransformersComputesTheSame(t *testing.T) {
	python := os.Getenv("DDPRUN_REFERENCE_PYTHON")
	if python == "" {
		t.Skip("DDPRUN_REFERENCE_PYTHON is not set: make test sets it to a Python with transformers")
	}
	for model, objective := range goldenObjectives {
		t.Run(model, func(t *testing.T) { transformersComputesTheSame(t, python, "../model/testdata/"+model, objective) })
	}
}

func transformersComputesTheSame(t *testing.T, python, model, objective string) {
	t.Parallel() // most of the time goes into starting Python
	c := settings(t, model, "objective="+objective, "max_steps=5", "save_strategy=steps", "save_steps=3", "learning_rate=1e-2")
	run(t, newJob(t, c, 33))
	dirs := []string{c.OutputDir}
	if objective == "mlm+nsp" { // the checkpoints of the others are made of the same code
		dirs = append(dirs, filepath.Join(c.OutputDir, "checkpoint-3"))
	}
	for _, dir := range dirs {
		file := filepath.Join(t.TempDir(), "logits.safetensors")
		writeLogits(t, dir, model, objective, file)
		check := exec.Command(python, "../../tools/golden/make_model_golden.py", "--check", dir, "--golden", file)
		said, err := check.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", filepath.Base(dir), err, said)
		}
		t.Logf("%s: %s", filepath.Base(dir), said)
	}
}

// writeLogits writes the logits of the model in dir for a golden model's batch, as a golden file.
func writeLogits(t *testing.T, dir, model, objective, path string) {
	t.Helper()
	g := openGoldenOf(t, model)
	b := g.batch("")
	r := oneRank(t, newJob(t, settings(t, dir, "objective="+objective), 8))
	var tensors []hf.Tensor
	err := torch.Do(func(s *torch.Scope) error {
		tokens, pairs := r.model.Logits(s, b)
		for name, x := range map[string]torch.Tensor{"logits": tokens, "pair_logits": pairs} {
			if !x.Defined() {
				continue
			}
			if before := g.floats(name); slices.Equal(before, x.Float32s()) || int64(len(before)) != x.Numel() {
				t.Errorf("the run has not moved the %s", name)
			}
			tensors = append(tensors, hf.Tensor{Name: name, DType: hf.F32, Shape: x.Shape(), Data: slices.Clone(bytesOf(x.Float32s()))})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ids", "token_types", "positions", "labelled", "labels", "offsets", "pair_samples", "pair_labels"} {
		if x, found := g.w.Tensor(name); found {
			tensors = append(tensors, x)
		}
	}
	if err := hf.WriteSafetensors(path, tensors, nil); err != nil {
		t.Fatal(err)
	}
}

func TestBytesOf(t *testing.T) {
	x := []float32{1, -2.5}
	if b := bytesOf(x); len(b) != 8 || binary.LittleEndian.Uint32(b) != 0x3f800000 || binary.LittleEndian.Uint32(b[4:]) != 0xc0200000 {
		t.Errorf("% x", b)
	}
	if len(bytesOf(nil)) != 0 {
		t.Error("nothing has bytes")
	}
}
