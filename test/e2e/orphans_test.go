package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// endless starts a run of three ranks that would go on for hours, and returns it in its steps with its workers.
func endless(t *testing.T, args ...string) (*workspace, *process, []int) {
	t.Helper()
	w := newWorkspace(t, 33)
	w.config("train.yaml", settings{"max_steps": 1000000, "logging_steps": 5})
	p := w.start(append(args, "--nproc", "3", "train.yaml")...)
	if !p.until("step 5", func() bool { return strings.Contains(p.err.String(), " step=5 ") }) {
		t.Fatalf("it ends before step 5\n%s", p.err.String())
	}
	workers := p.workers()
	if len(workers) != 3 {
		t.Fatalf("%d workers of 3", len(workers))
	}
	t.Cleanup(func() {
		for _, pid := range workers {
			if alive(pid) {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	return w, p, workers
}

// alive tells whether a worker has not ended.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), "(ddprun-worker)") && !strings.Contains(string(stat), ") Z ")
}

// gone waits for the end of all workers and returns how long it took.
func gone(t *testing.T, workers []int) time.Duration {
	t.Helper()
	began := time.Now()
	for left := workers; len(left) > 0; time.Sleep(time.Millisecond) {
		if alive(left[0]) {
			if time.Since(began) > patience {
				t.Fatalf("worker %d does not end", left[0])
			}
			continue
		}
		left = left[1:]
	}
	return time.Since(began)
}

// The launcher gets SIGKILL: none of its workers outlives it.
func TestNoOrphans(t *testing.T) {
	_, p, workers := endless(t)
	p.signal(syscall.SIGKILL)
	t.Logf("all workers ended %v after the launcher", gone(t, workers))
	p.wait()
}

// A worker dies: the others end too, also one that hangs, and the run's exit code and message say what happened.
func TestADeadWorkerStopsTheOthers(t *testing.T) {
	for _, hang := range []bool{false, true} {
		t.Run(fmt.Sprint("another hangs: ", hang), func(t *testing.T) {
			w, p, workers := endless(t)
			if hang {
				if err := syscall.Kill(p.worker(0), syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			}
			if !p.killWorker(1) {
				t.Fatal("rank 1 was not there")
			}
			t.Logf("the others ended %v after it", gone(t, workers))
			p.wait().want(t, 1, "rank 1", "SIGKILL")
			if report := w.read("out/logs/attempt_0/1/error.json"); !strings.Contains(report, "SIGKILL") {
				t.Errorf("error.json of rank 1: %s", report)
			}
		})
	}
}
