package e2e

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/shard"
)

// The losses do not depend on how many ranks share the lanes, also 4 lanes on 3 ranks, with dropout, samples of unequal length (so
// unequal label counts), and lanes that are empty in an epoch's last step.
func TestSameLossesAtAnyNumberOfRanks(t *testing.T) {
	t.Parallel()
	const documents, lanes, batch, stepsPerEpoch, steps = 33, 4, 2, 5, 20
	order, err := shard.NewOrder(shard.OrderConfig{Samples: documents, Lanes: lanes, BatchSize: batch, Seed: 42, Shuffle: true})
	if err != nil {
		t.Fatal(err)
	}
	empty := 0
	for lane := range lanes {
		if len(order.MicroBatch(0, stepsPerEpoch-1, lane, nil)) == 0 {
			empty++
		}
	}
	if order.StepsPerEpoch() != stepsPerEpoch || empty != 3 {
		t.Fatalf("%d steps an epoch, %d empty lanes in the last one: the test does not test what it says", order.StepsPerEpoch(), empty)
	}
	w := newWorkspace(t, documents)
	var want []record
	for _, ranks := range []int{1, 2, 3, 4} {
		output := fmt.Sprintf("out%d", ranks)
		w.config("train.yaml", settings{"output_dir": output, "max_steps": steps, "save_strategy": "no"})
		w.run("--nproc", fmt.Sprint(ranks), "train.yaml").want(t, 0)
		got := w.steps(output, steps)
		if got[stepsPerEpoch-1].Epoch != 1 {
			t.Fatalf("step %d ends epoch %v: the corpus has other samples than documents", stepsPerEpoch, got[stepsPerEpoch-1].Epoch)
		}
		if want == nil {
			want = got
		}
		worst := 0.0
		for i := range got {
			worst = max(worst, math.Abs(*got[i].Loss / *want[i].Loss - 1))
		}
		t.Logf("%d ranks: largest relative difference of a loss %.2g", ranks, worst)
		if !(worst <= 1e-6) {
			t.Errorf("%d ranks: a loss differs by %.2g from one rank's, more than 1e-6", ranks, worst)
		}
	}
	w.write("model/config.json", strings.Replace(w.read("model/config.json"), `"hidden_dropout_prob": 0.1`, `"hidden_dropout_prob": 0.0`, 1))
	w.config("train.yaml", settings{"output_dir": "dry", "max_steps": 1, "save_strategy": "no"})
	w.run("train.yaml").want(t, 0)
	if dry := w.steps("dry", 1); *dry[0].Loss == *want[0].Loss {
		t.Errorf("the loss of the first step is %v with and without dropout", *dry[0].Loss)
	}
}

// sameOnRanks runs a configuration at several numbers of ranks, into out1, out2, ..., and returns the first one's steps. The others' losses are the same up to a
// tolerance.
func (w *workspace) sameOnRanks(changes settings, steps int64, tolerance float64, ranks ...int) []record {
	w.t.Helper()
	var want []record
	for _, n := range ranks {
		changes["output_dir"] = fmt.Sprint("out", n)
		w.config("train.yaml", changes)
		w.run("--nproc", fmt.Sprint(n), "train.yaml").want(w.t, 0)
		got := w.steps(fmt.Sprint("out", n), steps)
		if want == nil {
			want = got
		}
		for i := range got {
			if d := math.Abs(*got[i].Loss / *want[i].Loss - 1); !(d <= tolerance) {
				w.t.Errorf("%d ranks: the loss of step %d differs by %.2g from that of %d", n, i+1, d, ranks[0])
			}
		}
	}
	return want
}
