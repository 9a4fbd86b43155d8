package train

import (
	"slices"
	"testing"
)

// Whoever waits for the feed waits for other ranks where the feed does.
func TestActivity(t *testing.T) {
	var a Activity
	if doing, waiting, done := a.Now(); doing != "" || waiting || done != 0 {
		t.Errorf("before all: %q %v %d", doing, waiting, done)
	}
	a.set(forwardBackward)
	a.setFeed(sumCounts)
	a.Tick()
	if doing, waiting, done := a.Now(); doing != "forward and backward" || waiting || done != 1 {
		t.Errorf("in a step: %q %v %d", doing, waiting, done)
	}
	a.set(awaitFeed)
	if doing, waiting, _ := a.Now(); doing != "waiting for the step's samples: summing the step's counts over ranks" || !waiting {
		t.Errorf("waiting for the feed, which sums: %q %v", doing, waiting)
	}
	a.setFeed(readSamples)
	if _, waiting, _ := a.Now(); waiting {
		t.Error("a feed that reads waits for nobody")
	}
	var nobody *Activity
	nobody.set(meet)
	nobody.Tick()
}

// A run counts its micro-batches and tells what it does in every phase, and goes back to training after an evaluation and a checkpoint.
func TestActivityOfARun(t *testing.T) {
	c := settings(t, goldenModel, "max_steps=4", "save_strategy=steps", "save_steps=2", "eval_data=x", "eval_strategy=steps", "eval_steps=2")
	job := newJob(t, c, 33)
	job.Eval = []EvalSet{{Samples: job.Train}}
	job.Activity = &Activity{}
	var told []string
	job.Beat = func(phase Phase, step, _ int64) {
		doing, _, _ := job.Activity.Now()
		if line := string(phase) + ": " + doing; len(told) == 0 || told[len(told)-1] != line {
			told = append(told, line)
		}
	}
	run(t, job)
	if _, _, done := job.Activity.Now(); done < 4 {
		t.Errorf("%d pieces of work are counted in 4 steps", done)
	}
	for _, want := range []string{"train: updating the weights", "evaluate: summing metrics over ranks", "evaluate: evaluating", "checkpoint: gathering the evaluation", "train: saving"} {
		if !slices.Contains(told, want) {
			t.Errorf("no %q in %q", want, told)
		}
	}
}
