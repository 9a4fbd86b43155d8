package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
)

// An evaluation is the same to the last bit at any number of ranks and for any seed of the training, and by `ddprun eval`.
func TestSameEvaluationEverywhere(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, 33)
	var want float64
	for ranks := 1; ranks <= 3; ranks++ {
		output := fmt.Sprint("out", ranks)
		w.config("train.yaml", settings{"output_dir": output, "seed": ranks, "data_seed": 10 * ranks, "eval_data": "heldout.txt",
			"per_device_eval_batch_size": 2, "max_steps": 1, "save_strategy": "no"})
		w.run("--nproc", fmt.Sprint(ranks), "train.yaml").want(t, 0)
		got, found := w.evals(output)[0]
		if !found {
			t.Fatal("no evaluation before the first step")
		}
		if ranks == 1 {
			want = got
		}
		if got != want {
			t.Errorf("%d ranks, seed %d: %v, want %v", ranks, ranks, got, want)
		}
	}
	r := w.run("eval", "model", "--data", "heldout.txt", "--threads", "1", "--set", "text_unit=line", "--set", "sample_unit=document",
		"--set", "per_device_eval_batch_size=2")
	r.want(t, 0)
	var alone struct{ Loss float64 }
	if err := json.Unmarshal([]byte(r.out), &alone); err != nil {
		t.Fatalf("%q: %v", r.out, err)
	}
	if alone.Loss != want {
		t.Errorf("ddprun eval: %v, want %v", alone.Loss, want)
	}
	r = w.run("eval", "model", "--data", "heldout.txt", "--threads", "1", "--set", "text_unit=line", "--set", "sample_unit=document",
		"--set", "per_device_eval_batch_size=2", "--set", "eval_seed=43")
	r.want(t, 0)
	other := alone
	if err := json.Unmarshal([]byte(r.out), &other); err != nil {
		t.Fatal(err)
	}
	if other == alone {
		t.Error("another eval_seed draws the same masks")
	}
}
