package e2e

import (
	"fmt"
	"testing"
)

// asOnGPUs has the workspace's programs take the way of GPUs on the CPU, and NCCL's test double for the real one.
func (w *workspace) asOnGPUs() {
	w.t.Helper()
	w.onLoopback("")
	w.env = append(w.env, "DDPRUN_PRETEND_CUDA=1")
}

// The whole trainer takes the way of GPUs, with NCCL on 2 and 4 ranks, in two halves and with evaluations: losses as with Gloo on the same way to 1e-6, and
// those of the CPU's own way but for rounding.
func TestTheWayOfGPUsOverNCCL(t *testing.T) {
	t.Parallel()
	for _, ranks := range []int{2, 4} {
		runs := map[string][]record{}
		for _, c := range []struct {
			name, backend string
			pretend       bool
		}{{"cpu", "auto", false}, {"gloo", "gloo", true}, {"nccl", "nccl", true}} {
			w := newWorkspace(t, 33)
			if c.pretend {
				w.asOnGPUs()
			}
			w.config("train.yaml", settings{"backend": c.backend, "max_steps": 12, "save_steps": 6, "eval_data": "heldout.txt", "eval_steps": 6, "lr_scheduler_type": "constant_with_warmup"})
			if c.backend == "nccl" { // in two halves
				w.run("--nproc", fmt.Sprint(ranks), "--set", "max_steps=6", "train.yaml").want(t, 0)
			}
			w.run("--nproc", fmt.Sprint(ranks), "train.yaml").want(t, 0)
			runs[c.name] = w.records("out")
		}
		for _, c := range []struct {
			to    string
			limit float64
		}{{"gloo", 1e-6}, {"cpu", 1e-4}} {
			worst, compared := largestDifference(runs[c.to], runs["nccl"])
			t.Logf("%d ranks: %d losses with NCCL on the way of GPUs beside %s, the largest relative difference is %.2g", ranks, compared, c.to, worst)
			if compared < 14 || !(worst <= c.limit) {
				t.Errorf("%d ranks: of %d losses one differs from %s by %.2g, more than %g", ranks, compared, c.to, worst, c.limit)
			}
		}
	}
}

// On the way of GPUs too a run that is stopped and started again ends with the same weights, bit for bit.
func TestTheWayOfGPUsResumes(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, 33)
	w.asOnGPUs()
	w.config("train.yaml", settings{"backend": "nccl", "max_steps": 12, "save_steps": 5, "logging_steps": 4, "eval_data": "heldout.txt", "eval_steps": 6})
	w.run("--nproc", "2", "--set", "output_dir=whole", "train.yaml").want(t, 0)
	w.run("--nproc", "2", "--set", "resume_from_checkpoint=whole/checkpoint-5", "train.yaml").want(t, 0, "resuming")
	if w.read("out/model.safetensors") != w.read("whole/model.safetensors") {
		t.Error("resumed after 5 steps, the run ends elsewhere")
	}
}
