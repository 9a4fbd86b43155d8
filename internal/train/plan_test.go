package train

import (
	"context"
	"strings"
	"testing"
)

func TestPlan(t *testing.T) {
	// 33 samples in 4 lanes of 2: ceil(ceil(33/4)/2) = 5 steps an epoch.
	for _, c := range []struct {
		sets                           []string
		total, logging, evaluate, save int64
	}{
		{[]string{"num_train_epochs=3", "max_steps=-1"}, 15, 1, 0, 0},
		{[]string{"num_train_epochs=1.5", "max_steps=-1"}, 8, 1, 0, 0},
		{[]string{"num_train_epochs=1.5", "max_steps=7"}, 7, 1, 0, 0},
		{[]string{"max_steps=20", "logging_steps=0.25", "save_strategy=steps", "save_steps=0.1", "eval_data=x", "eval_steps=0.5"}, 20, 5, 10, 2},
		{[]string{"max_steps=20", "logging_steps=0.001", "save_strategy=steps", "save_steps=500"}, 20, 1, 0, 500},
		{[]string{"dataloader_drop_last=true", "num_train_epochs=2", "max_steps=-1"}, 8, 1, 0, 0},
	} {
		p, err := newPlan(settings(t, goldenModel, c.sets...), 33, 4)
		if err != nil {
			t.Fatal(err)
		}
		if p.total != c.total || p.loggingSteps != c.logging || p.evalSteps != c.evaluate || p.saveSteps != c.save {
			t.Errorf("%q: %d steps, logging %d, evaluation %d, saving %d; want %d, %d, %d, %d", c.sets,
				p.total, p.loggingSteps, p.evalSteps, p.saveSteps, c.total, c.logging, c.evaluate, c.save)
		}
	}
}

func TestPlanPositions(t *testing.T) {
	p, err := newPlan(settings(t, goldenModel, "max_steps=12", "learning_rate=1", "warmup_steps=2"), 33, 4)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ step, epoch, epochStep int64 }{{0, 0, 0}, {4, 0, 4}, {5, 1, 0}, {11, 2, 1}} {
		if epoch, epochStep := p.at(c.step); epoch != c.epoch || epochStep != c.epochStep {
			t.Errorf("step %d is step %d of epoch %d, want %d of %d", c.step, epochStep, epoch, c.epochStep, c.epoch)
		}
	}
	if p.epochs(6) != 1.2 {
		t.Errorf("6 steps of 5 an epoch are %v epochs", p.epochs(6))
	}
	due := ""
	for step := int64(1); step <= 12; step++ {
		if p.due(step, 5) {
			due += "x"
		} else {
			due += "-"
		}
		if p.due(step, 0) {
			t.Errorf("never is due after step %d", step)
		}
	}
	if due != "----x----x-x" {
		t.Errorf("every 5 of 12 steps and at the end is %s", due)
	}
	for step, want := range []float64{0, 0.5, 1, 0.9} {
		if got := p.learningRate(int64(step)); got != want {
			t.Errorf("learning rate of step %d: %v, want %v", step, got, want)
		}
	}
}

func TestPlanWithoutAStep(t *testing.T) {
	c := settings(t, goldenModel, "dataloader_drop_last=true")
	for samples, want := range map[int64]string{7: "dataloader_drop_last", 0: "samples"} {
		if _, err := newPlan(c, samples, 4); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d samples: %v", samples, err)
		}
	}
	jobOf := func(n int) *Job { return newJob(t, c, n) }
	wantKind(t, CheckLength(context.Background(), jobOf(7), 4), ErrInput, "7 samples", "4 lanes")
	if err := CheckLength(context.Background(), jobOf(8), 4); err != nil {
		t.Error(err)
	}
}
