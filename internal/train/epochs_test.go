package train

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"github.com/ddprun/ddprun/internal/checkpoint"
)

// tokenJob is a run in micro-batches of at most 50 tokens, in two lanes.
func tokenJob(t testing.TB, sets ...string) *Job {
	t.Helper()
	c := settings(t, goldenModel, append([]string{"per_device_train_batch_size=0", "per_device_train_tokens=50", "global_batch_tokens=100", "global_batch_size=0"}, sets...)...)
	job := newJob(t, c, 33)
	job.PlansDir = filepath.Join(t.TempDir(), "plans")
	return job
}

// Positions follow from running sums: epochs of unequal numbers of steps.
func TestPlanByTokens(t *testing.T) {
	job := tokenJob(t, "max_steps=-1", "num_train_epochs=6.5", "eval_data=x", "eval_strategy=epoch")
	p, err := job.newPlan(context.Background(), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	step, unequal := int64(0), false
	for epoch := range int64(7) {
		first, end, err := p.steps(context.Background(), epoch)
		if err != nil || first != step {
			t.Fatalf("epoch %d begins at step %d, not %d (%v)", epoch, first, step, err)
		}
		unequal = unequal || end-first != p.stepsPerEpoch
		for ; step < end; step++ {
			if e, s := p.at(step); e != epoch || s != step-first {
				t.Fatalf("step %d lies at %d of epoch %d, want %d of %d", step, s, e, step-first, epoch)
			}
			if got, want := p.epochs(step), float64(epoch)+float64(step-first)/float64(end-first); math.Abs(got-want) > 1e-12 {
				t.Errorf("after step %d: %v epochs, want %v", step, got, want)
			}
			if due := p.due(step, p.evalSteps); due != (step == first && epoch > 0 || step == p.total) {
				t.Errorf("after step %d, which is %d of its epoch, an evaluation is due: %v", step, step-first, due)
			}
		}
		if epoch == 6 {
			if want := first + int64(math.Ceil(0.5*float64(end-first))); p.total != want {
				t.Errorf("6.5 epochs are %d steps, want %d", p.total, want)
			}
		}
	}
	if !unequal {
		t.Error("all epochs have as many steps: the test shows nothing")
	}
}

// max_steps plans an epoch when it is come to.
func TestPlanByTokensIsLazy(t *testing.T) {
	job := tokenJob(t, "max_steps=1000000")
	p, err := job.newPlan(context.Background(), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if n := len(p.tokens.epochs); n != 1 {
		t.Errorf("%d epochs are planned at the start", n)
	}
	if err := p.tokens.reach(context.Background(), 3*p.stepsPerEpoch+3); err != nil || len(p.tokens.epochs) < 3 {
		t.Errorf("%d epochs are planned (%v)", len(p.tokens.epochs), err)
	}
	if got := p.epochs(p.total); !(got > 1000) {
		t.Errorf("the run is of %v epochs", got)
	}
}

// A run goes on from its checkpoint to the same end, and not where the boundaries are others.
func TestResumeByTokens(t *testing.T) {
	sets := []string{"save_strategy=steps", "save_steps=7", "max_steps=14", "lr_scheduler_type=constant"}
	whole := tokenJob(t, sets...)
	run(t, whole)
	end := read(t, filepath.Join(whole.Config.OutputDir, "model.safetensors"))
	ckpt, err := checkpoint.Load(context.Background(), filepath.Join(whole.Config.OutputDir, "checkpoint-7"))
	if err != nil || ckpt.State.PlanDigest == "" {
		t.Fatalf("the checkpoint holds plan %q (%v)", ckpt.State.PlanDigest, err)
	}
	half := tokenJob(t, append(sets, "max_steps=7")...)
	run(t, half)
	again := tokenJob(t, append(sets, "output_dir="+half.Config.OutputDir)...) // with plans of its own
	run(t, again)
	if read(t, filepath.Join(half.Config.OutputDir, "model.safetensors")) != end {
		t.Error("the run that was resumed ended elsewhere")
	}
	p, err := again.newPlan(context.Background(), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	ckpt.State.PlanDigest = "0123456789abcdef0123"
	err = p.checkPlan(context.Background(), beginning{step: 7, checkpoint: ckpt})
	wantKind(t, mark(ErrInput, err), ErrInput, "checkpoint-7", "other boundaries", "0123456789abcdef then")
}

// A sample that does not fit is told of before the start.
func TestSampleBeyondTheBudget(t *testing.T) {
	job := tokenJob(t, "per_device_train_tokens=20", "global_batch_tokens=40")
	wantKind(t, CheckLength(context.Background(), job, 2), ErrInput, "more than the 20", "per_device_train_tokens")
}
