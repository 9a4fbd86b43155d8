package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ddprun/ddprun/nccl/loopback"
)

// onLoopback gives the workspace's programs the loopback library, the test double of NCCL and of the CUDA runtime, and faults of it.
func (w *workspace) onLoopback(fault string) {
	w.t.Helper()
	library, err := loopback.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	w.env = append(loopback.Environment(library), "LOOPBACK_FAULT="+fault)
}

// With NCCL the losses are those with Gloo, also where lanes are empty, with evaluations, and after a stop and a second start.
func TestNCCLTrainsAsGlooDoes(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, 33)
	w.onLoopback("")
	for _, ranks := range []int{2, 4} {
		var want []record
		for _, backend := range []string{"gloo", "nccl"} {
			output := fmt.Sprint(backend, ranks)
			w.config("train.yaml", settings{"output_dir": output, "backend": backend, "max_steps": 12, "save_steps": 6, "eval_data": "heldout.txt", "eval_steps": 6})
			if backend == "nccl" { // in two halves
				w.run("--nproc", fmt.Sprint(ranks), "--set", "max_steps=6", "--set", "lr_scheduler_type=constant_with_warmup", "train.yaml").want(t, 0)
			}
			w.run("--nproc", fmt.Sprint(ranks), "--set", "lr_scheduler_type=constant_with_warmup", "train.yaml").want(t, 0)
			got := w.records(output)
			if want == nil {
				want = got
				continue
			}
			worst, compared := largestDifference(want, got)
			t.Logf("%d ranks: %d losses compared, the largest relative difference is %.2g", ranks, compared, worst)
			if compared < 14 || !(worst <= 1e-6) {
				t.Errorf("%d ranks: of %d losses one differs by %.2g, more than 1e-6", ranks, compared, worst)
			}
		}
	}
}

// largestDifference compares the losses of two runs, of steps and evaluations: the largest relative difference, and their number.
func largestDifference(want, got []record) (worst float64, compared int) {
	for _, a := range want {
		for _, b := range got {
			if a.Step == b.Step && a.Loss != nil && b.Loss != nil {
				worst, compared = max(worst, math.Abs(*a.Loss / *b.Loss - 1)), compared+1
			}
			if a.Step == b.Step && a.EvalLoss != nil && b.EvalLoss != nil {
				worst, compared = max(worst, math.Abs(*a.EvalLoss / *b.EvalLoss - 1)), compared+1
			}
		}
	}
	return worst, compared
}

// Gradients in 16 bits change a run a little, and every rank in the same way: 2 and 4 ranks end near the uncompressed run, and not on it.
func TestCompressedGradients(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, 33)
	w.onLoopback("")
	losses := map[string]float64{}
	for _, c := range []struct{ backend, hook string }{{"auto", "none"}, {"auto", "bf16"}, {"nccl", "bf16"}, {"nccl", "fp16"}} {
		for _, ranks := range []int{2, 4} {
			output := fmt.Sprint(c.backend, "-", c.hook, ranks)
			w.config("train.yaml", settings{"output_dir": output, "backend": c.backend, "ddp_comm_hook": c.hook, "max_steps": 10, "save_strategy": "no"})
			w.run("--nproc", fmt.Sprint(ranks), "train.yaml").want(t, 0)
			got := w.steps(output, 10)
			losses[output] = *got[9].Loss
			d := math.Abs(losses[output]/losses["auto-none2"] - 1)
			t.Logf("%s: the last loss differs by %.2g", output, d)
			if !(d <= 0.01) || c.hook != "none" && d < 1e-7 {
				t.Errorf("%s: the last loss is %v, uncompressed %v", output, losses[output], losses["auto-none2"])
			}
		}
	}
}

// A fault of the communication ends the run, within the time-out and a little, with an error that says where; each rank that is left leaves a record that says the same.
func TestNCCLFaultsEndTheRun(t *testing.T) {
	t.Parallel()
	const timeout = 5
	for name, c := range map[string]struct {
		fault string
		said  []string // in the error and in each rank's record
	}{
		"dies":  {"die:rank=1,at=5", nil},
		"error": {"error:rank=1,at=5,code=3", []string{"rank 1: ", "ncclInternalError", "at collective 5, all-reduce of"}},
		"hang":  {"hang:rank=1,at=5", []string{"a collective did not end in time: 5s: ranks 0, 1, 2 are stuck in collective 5, all-reduce of"}},
		"init":  {"init:rank=1", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorkspace(t, 33)
			w.onLoopback(c.fault)
			w.config("train.yaml", settings{"backend": "nccl", "max_steps": 1000, "ddp_timeout": timeout})
			began := time.Now()
			r := w.run("--nproc", "3", "train.yaml")
			t.Logf("%v\n%s", time.Since(began), r.stderr)
			said := append([]string{map[string]string{"dies": "rank 1", "init": "cannot form the NCCL communicator"}[name]}, c.said...)
			r.want(t, 1, said...)
			for rank := range 3 {
				if c.said == nil {
					continue
				}
				var dump struct {
					Error string
					Ranks map[int]struct{ Entries, Marks []struct{ Op, What string } }
				}
				if err := json.Unmarshal([]byte(w.read(fmt.Sprint("out/.ddprun/collectives/attempt_0/rank-", rank, ".json"))), &dump); err != nil {
					t.Fatal(err)
				}
				if len(dump.Ranks) != 3 || len(dump.Ranks[0].Entries) != 5 || len(dump.Ranks[0].Marks) == 0 {
					t.Errorf("rank %d: %+v", rank, dump)
				}
				for _, s := range c.said {
					if !strings.Contains(dump.Error, s) {
						t.Errorf("rank %d: %s\nlacks %s", rank, dump.Error, s)
					}
				}
			}
		})
	}
}

// A stopped process is named by the others, where the agent does not look.
func TestNCCLNamesAStoppedRank(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, 33)
	w.onLoopback("")
	w.config("train.yaml", settings{"backend": "nccl", "max_steps": 1000000, "ddp_timeout": 3})
	p := w.start("--nproc", "2", "--silence-timeout", "0", "train.yaml")
	if !p.until("step 5", func() bool { return strings.Contains(p.err.String(), " step=5 ") }) {
		t.Fatalf("it ends before step 5\n%s", p.err.String())
	}
	if err := syscall.Kill(p.worker(1), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r := p.wait()
	r.want(t, 1, "rank 0 of 2: ", "rank 1 is not answering: dead, stopped or cut off")
}

// On the CPU, NCCL is refused where it is the real one or none at all, with the way out, and nothing is left behind.
func TestNCCLOnTheCPUIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, 33)
	w.config("train.yaml", settings{"backend": "nccl"})
	before := w.tree()
	w.env = []string{"NCCL_LIBRARY=" + w.path("libnccl.so.2")}
	w.run("train.yaml").want(t, 78, "backend: nccl", "libnccl.so.2")
	w.sameTree(before)
	if _, err := os.Stat(w.path("out")); err == nil {
		t.Error("out was made")
	}
}
