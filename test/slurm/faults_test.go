package slurm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// forFaults skips the test in the quick tier: Slurm takes its time to notice a lost node.
func forFaults(t *testing.T) {
	if !long {
		t.Skip("waits for Slurm to notice (DDPRUN_TEST_ALL=1)")
	}
}

func TestTrainTimeLimit(t *testing.T) {
	forFaults(t)
	reference(t, nodes)
	w := newTraining(t, nodes, nodes)
	w.job.Time = "1" // USR1 comes 50 s before its end, to the minute
	w.submit()
	w.reaches(20)
	// Slower than the time limit allows: all stand still most of the time.
	for !strings.Contains(w.log(), "the run ended") && w.field("JobState") == "RUNNING" {
		on(t, "ctl", "scancel", "--signal=STOP", w.id)
		time.Sleep(time.Second)
		on(t, "ctl", "scancel", "--signal=CONT", w.id)
		time.Sleep(200 * time.Millisecond)
	}
	w.says("stopped on request, with a checkpoint at step", 1)
	w.ends("COMPLETED", "0:0", "") // the second start may reach the limit too
	w.same(nodes)
}

// agent returns the process of the agent of a node rank.
func (w *work) agent(rank int) int {
	w.t.Helper()
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		environ, err := os.ReadFile(file)
		program, _ := os.Readlink(filepath.Join(filepath.Dir(file), "exe"))
		arguments, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		has := func(variable string) bool { return strings.Contains("\x00"+string(environ), "\x00"+variable+"\x00") }
		if err == nil && program == w.job.Program[0] && strings.Contains(string(arguments), "\x00--nnodes=") && has("SLURM_JOB_ID="+w.id) && has(fmt.Sprintf("SLURM_NODEID=%d", rank)) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			return pid
		}
	}
	w.t.Fatalf("no agent of node %d", rank)
	return 0
}

// An agent is killed on a node that stays: the others wait for it in vain, and the script starts all again in the same job.
func TestTrainAgentKilled(t *testing.T) {
	forFaults(t)
	reference(t, nodes)
	w := newTraining(t, nodes, nodes)
	w.submit()
	w.reaches(50)
	if err := syscall.Kill(w.agent(1), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.ends("COMPLETED", "0:0", "0")
	if log := w.log(); !strings.Contains(log, "with 137") || !strings.Contains(log, "starting the agents again") {
		t.Error("not started again by the script")
	}
	w.same(nodes)
}

// A fixed number of nodes: the job is queued again and trains on others.
func TestTrainPowerOffFixed(t *testing.T) {
	forFaults(t)
	reference(t, 2) // while all nodes are there
	w := newTraining(t, 2, 2)
	w.submit()
	w.reaches(50)
	script(t, "power", "node2", "off")
	w.ends("COMPLETED", "0:0", "1")
	w.same(2)
}

// An elastic run goes on with two, in the same job.
func TestTrainPowerOffElastic(t *testing.T) {
	forFaults(t)
	reference(t, nodes)
	w := newTraining(t, 2, nodes)
	w.submit()
	w.reaches(50)
	script(t, "power", "node2", "off")
	w.ends("COMPLETED", "0:0", "0")
	w.close(nodes)
}

// Also without the first node, whose loss takes the script and srun.
func TestTrainPowerOffFirst(t *testing.T) {
	forFaults(t)
	reference(t, nodes)
	w := newTraining(t, 2, nodes)
	w.submit()
	w.reaches(50)
	script(t, "power", "node1", "off")
	w.ends("COMPLETED", "0:0", "1")
	w.close(nodes)
}

// A node without network is lost too; what its ranks still do counts no more, also when it is back.
func TestTrainUnplugged(t *testing.T) {
	forFaults(t)
	reference(t, nodes)
	w := newTraining(t, 2, nodes)
	w.submit()
	w.reaches(50)
	script(t, "cable", "node3", "down")
	until(t, "the loss", func() bool { return w.field("JobState") != "RUNNING" || w.field("NumNodes") == "2" })
	script(t, "cable", "node3", "up")
	w.ends("COMPLETED", "0:0", "0")
	w.close(nodes)
}

func TestTrainUnpluggedFixed(t *testing.T) {
	forFaults(t)
	reference(t, 2) // while all nodes are there
	w := newTraining(t, 2, 2)
	w.submit()
	w.reaches(50)
	script(t, "cable", "node2", "down")
	until(t, "another start", func() bool { return w.field("Restarts") == "1" })
	script(t, "cable", "node2", "up")
	w.ends("COMPLETED", "0:0", "1")
	w.same(2)
}
