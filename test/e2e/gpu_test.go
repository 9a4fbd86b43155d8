package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/ddprun/ddprun/nccl"
	"github.com/ddprun/ddprun/nccl/cuda"
)

// gpus is the number of GPUs, at least n, or why the test is skipped. `make test-gpu` runs these tests.
func gpus(t *testing.T, n int) int {
	t.Helper()
	r, err := cuda.Open()
	found := 0
	if err == nil {
		found, err = r.DeviceCount()
	}
	switch {
	case err != nil:
		t.Skipf("no GPU here: %v", err)
	case found < n:
		t.Skipf("wants %d GPUs, and CUDA_VISIBLE_DEVICES leaves %d", n, found)
	}
	return found
}

// dry takes the dropout out of the workspace's model: a GPU draws another.
func (w *workspace) dry() {
	w.t.Helper()
	config := strings.ReplaceAll(w.read("model/config.json"), `_dropout_prob": 0.1`, `_dropout_prob": 0.0`)
	w.write("model/config.json", strings.ReplaceAll(config, `"dropout_rate": 0.1`, `"dropout_rate": 0.0`))
}

// gpuWorkspaces are a model of each kind with what it trains on.
var gpuWorkspaces = map[string]struct {
	make func(testing.TB, int) *workspace
	keys settings
}{
	"bert": {newWorkspace, settings{}},
	"t5":   {newTextWorkspace, settings{"objective": "span_corruption"}},
}

// onGPU writes train.yaml for GPUs, with changes.
func (w *workspace) onGPU(keys settings, changes settings) {
	w.t.Helper()
	all := settings{"device": "cuda", "max_steps": 10, "save_steps": 5, "eval_data": "heldout.txt", "eval_steps": 5}
	for _, more := range []settings{keys, changes} {
		for key, value := range more {
			all[key] = value
		}
	}
	w.config("train.yaml", all)
}

// In float32 the losses of training and evaluation are the CPU's; in bfloat16 they are near, and not the same.
func TestGPULossesAreTheCPUs(t *testing.T) {
	gpus(t, 1)
	for name, kind := range gpuWorkspaces {
		t.Run(name, func(t *testing.T) {
			w := kind.make(t, 33)
			w.dry()
			for _, c := range []struct {
				output  string
				changes settings
				limit   float64
			}{{"cpu", settings{"device": "cpu"}, 0}, {"float32", settings{}, 1e-4}, {"deterministic", settings{"full_determinism": true}, 1e-4}, {"tf32", settings{"tf32": true}, 1e-2}, {"bf16", settings{"bf16": true}, 3e-2}} {
				c.changes["output_dir"] = c.output
				w.onGPU(kind.keys, c.changes)
				w.run("train.yaml").want(t, 0)
				if c.output == "cpu" {
					continue
				}
				worst, compared := largestDifference(w.records("cpu"), w.records(c.output))
				t.Logf("%s: of %d losses the largest relative difference to the CPU's is %.2g", c.output, compared, worst)
				if compared < 12 || !(worst <= c.limit) || c.output == "bf16" && worst < 1e-6 {
					t.Errorf("%s: of %d losses one differs by %.2g from the CPU's", c.output, compared, worst)
				}
			}
		})
	}
}

// With full_determinism a run repeats bit for bit, and so does one that goes on from a checkpoint, on one rank and on two.
func TestGPUResumesBitForBit(t *testing.T) {
	for _, ranks := range []int{1, 2} {
		for name, kind := range gpuWorkspaces {
			for _, precision := range []string{"bf16", "tf32"} {
				t.Run(fmt.Sprint(name, " ", precision, " on ", ranks), func(t *testing.T) {
					gpus(t, ranks)
					w := kind.make(t, 33)
					w.onGPU(kind.keys, settings{"full_determinism": true, precision: true})
					nproc := fmt.Sprint(ranks)
					w.run("--nproc", nproc, "--set", "output_dir=whole", "train.yaml").want(t, 0)
					w.run("--nproc", nproc, "--set", "output_dir=again", "train.yaml").want(t, 0)
					w.run("--nproc", nproc, "--set", "resume_from_checkpoint=whole/checkpoint-5", "train.yaml").want(t, 0, "resuming")
					for _, file := range []string{"model.safetensors", "checkpoint-10/optimizer.safetensors"} {
						for _, other := range []string{"again", "out"} {
							if w.read(other+"/"+file) != w.read("whole/"+file) {
								t.Errorf("%s/%s is not the uninterrupted run's", other, file)
							}
						}
					}
				})
			}
		}
	}
}

// Two ranks, a GPU each, over NCCL train to one rank's losses.
func TestGPURanksOverNCCL(t *testing.T) {
	gpus(t, 2)
	w := newWorkspace(t, 33)
	w.sameOnGPURanks(2)
}

// Two ranks that share a GPU do, too, with an NCCL that allows it.
func TestGPUSharedByRanks(t *testing.T) {
	gpus(t, 1)
	lib, err := nccl.Open()
	if err != nil {
		t.Skip(err)
	}
	if lib.Version() < 23007 {
		t.Skipf("ranks share a GPU from NCCL 2.30.7 on, and %s is %s: pip install nvidia-nccl-cu13, and name it in NCCL_LIBRARY", lib.Path(), lib.VersionString())
	}
	w := newWorkspace(t, 33)
	w.env = []string{"NCCL_MULTI_RANK_GPU_ENABLE=1", "CUDA_VISIBLE_DEVICES=0"}
	w.sameOnGPURanks(2)
}

// sameOnGPURanks compares the losses of several ranks with one's.
func (w *workspace) sameOnGPURanks(ranks int) {
	w.t.Helper()
	for _, n := range []int{1, ranks} {
		w.onGPU(nil, settings{"output_dir": fmt.Sprint("ranks", n)})
		w.run("--nproc", fmt.Sprint(n), "train.yaml").want(w.t, 0, "device: GPU 0")
	}
	worst, compared := largestDifference(w.records("ranks1"), w.records(fmt.Sprint("ranks", ranks)))
	w.t.Logf("%d ranks: of %d losses the largest relative difference is %.2g", ranks, compared, worst)
	if compared < 12 || !(worst <= 1e-4) {
		w.t.Errorf("%d ranks: of %d losses one differs by %.2g from one rank's", ranks, compared, worst)
	}
}

// A rank without a GPU is refused before anything starts, and device: auto says what it takes.
func TestGPUsAreCounted(t *testing.T) {
	gpus(t, 1)
	w := newWorkspace(t, 33)
	w.onGPU(nil, settings{})
	w.env = []string{"CUDA_VISIBLE_DEVICES=0", "NCCL_MULTI_RANK_GPU_ENABLE=0"}
	w.run("--nproc", "2", "train.yaml").want(t, 78, "2 ranks and 1 GPU on this node", "--nproc 1")
	w.onGPU(nil, settings{"device": "auto"})
	w.run("train.yaml").want(t, 0, "device: GPU 0", "device: auto")
	w.env = []string{"CUDA_VISIBLE_DEVICES="}
	w.run("--set", "output_dir=other", "train.yaml").want(t, 0, "device: the CPU, since no GPU is visible")
	w.run("--set", "output_dir=third", "--set", "device=cuda", "train.yaml").want(t, 78, "device: cuda: no GPU is visible")
	if _, err := os.Stat(w.path("third")); err == nil {
		t.Error("third was made")
	}
}

// Steps whose gradient is not finite are skipped on a GPU as on the CPU, and end the run at the same step.
func TestGPUSkipsSteps(t *testing.T) {
	gpus(t, 1)
	w := newWorkspace(t, 33)
	w.poison("bert.encoder.layer.0.output.dense.weight", 3)
	for _, device := range []string{"cpu", "cuda"} {
		w.onGPU(nil, settings{"device": device, "output_dir": device, "max_nonfinite_steps": 5, "logging_steps": 3, "eval_data": nil, "eval_steps": nil})
		w.run("train.yaml").want(t, 1, "step 5: the gradient is not finite for the 5. time in a row, first in bert.")
	}
}

// A rank on a GPU that is stopped is named by the others.
func TestGPUStoppedRankIsNamed(t *testing.T) {
	gpus(t, 2)
	w := newWorkspace(t, 33)
	w.onGPU(nil, settings{"max_steps": 1000000, "ddp_timeout": 5, "eval_data": nil, "eval_steps": nil, "save_strategy": "no"})
	p := w.start("--nproc", "2", "--silence-timeout", "0", "train.yaml")
	if !p.until("step 5", func() bool { return strings.Contains(p.err.String(), " step=5 ") }) {
		t.Fatalf("it ends before step 5\n%s", p.err.String())
	}
	if err := syscall.Kill(p.worker(1), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.wait().want(t, 1, "rank 1")
}
