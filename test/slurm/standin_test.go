package slurm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// standIn stands in for ddprun: it does what a file named after the job's start and step says (plan-<restart>.<step>, else plan): code N writes an outcome
// and exits with it, exit N exits without, die is killed on node 1 while the others wait, wait waits. TERM and USR1 end it with 75 after a second, as
// ddprun takes to save; a second one later than 2 s after the first is noted.
const standIn = `#!/bin/bash
cd "$(dirname "$0")" || exit 99
start=${SLURM_RESTART_COUNT:-0}.$SLURM_STEP_ID
outcome() { printf '{\n  "code": %s,\n  "run": "%s"\n}\n' "$1" "$start" >"out/.ddprun/.$SLURM_NODEID"; mv "out/.ddprun/.$SLURM_NODEID" out/.ddprun/outcome.json; }
echo "agent $start on $SLURMD_NODENAME, $SLURM_NODEID of $SLURM_STEP_NODELIST, $SLURM_CPUS_ON_NODE CPUs, ${SLURM_GPUS_ON_NODE:-0} GPUs"
stop() { echo "agent $start on $SLURMD_NODENAME got $1"; [[ $stopping ]] || { stopping=1; mkdir -p out/checkpoint-1; sleep 1; outcome 75; exit 75; }; }
trap 'stop TERM' TERM
trap 'stop USR1' USR1
plan=plan-$start
[[ -e $plan ]] || plan=plan
read -r what code <"$plan"
case $what in
code) sleep .5; outcome "$code"; exit "$code" ;;
exit) exit "$code" ;;
die) [[ $SLURM_NODEID = 1 ]] && kill -KILL $$; sleep 1; outcome 75; exit 75 ;;
esac
while :; do sleep .1; done
`

// newStandIn has a job of the stand-in whose plans are given by name: what they are.
func newStandIn(t *testing.T, plans ...string) *work {
	w := newWork(t)
	w.write("agent", standIn)
	for _, plan := range plans {
		name, what, _ := strings.Cut(plan, ": ")
		w.write(name, what+"\n")
	}
	return w
}

// One agent a node; the key lies in a file of its owner while they run, in no argument and no environment, and is gone afterwards.
func TestDone(t *testing.T) {
	w := newStandIn(t, "plan: wait", "plan-1.0: code 0")
	w.submit()
	w.says("agent 0.0 on", nodes)
	path := w.path("out/.ddprun/slurm-key-" + w.id)
	key := w.read("out/.ddprun/slurm-key-" + w.id)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || len(key) != 64 {
		t.Fatalf("the key: %v, %v, %d bytes", info, err, len(key))
	}
	seen := 0
	for _, name := range []string{"cmdline", "environ"} {
		files, _ := filepath.Glob("/proc/[0-9]*/" + name)
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				continue // it has ended meanwhile
			}
			if strings.Contains(string(text), key) {
				t.Errorf("%s shows the key", file)
			}
			if name == "cmdline" && strings.Contains(string(text), "--key-file="+path) {
				seen++
			}
		}
	}
	if seen < nodes {
		t.Errorf("%d agents run, want %d", seen, nodes)
	}
	on(t, "ctl", "scancel", "--signal=USR1", w.id) // as before the time limit
	w.says("queued again (time 1 of 5)", 1)
	w.ends("COMPLETED", "0:0", "1")
	for _, host := range []string{"node1, 0", "node2, 1", "node3, 2"} {
		for _, start := range []string{"0.0", "1.0"} { // in one log
			if !strings.Contains(w.log(), "agent "+start+" on "+host+" of node[1-3]") {
				t.Errorf("no agent %s on %s", start, host)
			}
		}
	}
}

// scancel gives the agents time to save, and the script does not queue the job again.
func TestCancel(t *testing.T) {
	w := newStandIn(t, "plan: wait")
	w.submit()
	w.says("agent 0.0 on", nodes)
	on(t, "ctl", "scancel", w.id)
	w.says("Slurm ends this job", 1)
	w.ends("CANCELLED", "75:0", "0")
	if n := strings.Count(w.log(), "got TERM"); n < nodes {
		t.Errorf("%d agents got TERM, want %d", n, nodes)
	}
}

// scontrol requeue, as preemption does it: the agents save, and Slurm starts the job again, which does not count.
func TestRequeue(t *testing.T) {
	w := newStandIn(t, "plan: wait", "plan-1.0: code 0")
	w.submit()
	w.says("agent 0.0 on", nodes)
	on(t, "ctl", "scontrol", "requeue", w.id)
	w.ends("COMPLETED", "0:0", "1")
	if strings.Contains(w.log(), "queued again") {
		t.Error("the script queued the job again too")
	}
}

// The table of exit codes: what ends the job, and as what.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct{ plan, state, code string }{
		{"code 1", "FAILED", "1:0"},
		{"exit 78", "FAILED", "78:0"},
		{"code 93", "FAILED", "93:0"},
	} {
		t.Run(c.plan, func(t *testing.T) {
			w := newStandIn(t, "plan: "+c.plan)
			w.submit()
			w.ends(c.state, c.code, "0")
		})
	}
	if !long {
		return
	}
	for _, c := range []struct{ name, plan string }{{"a crash", "exit 2"}, {"killed", "exit 137"}} {
		t.Run(c.name, func(t *testing.T) {
			w := newStandIn(t, "plan: "+c.plan)
			w.submit()
			w.ends("FAILED", "93:0", "0")
			if n := strings.Count(w.log(), "agent 0."); n != 3*nodes {
				t.Errorf("%d agents were started, want three times %d", n, nodes)
			}
		})
	}
}

// An agent that dies ends no other one, and the next step starts all of them again in the same job.
func TestAgentDies(t *testing.T) {
	w := newStandIn(t, "plan: die", "plan-0.1: code 0")
	w.submit()
	w.ends("COMPLETED", "0:0", "0")
	if log := w.log(); !strings.Contains(log, "the run ended with 75, srun with 137") || strings.Contains(log, "got TERM") || !strings.Contains(log, "agent 0.1 on node2, 1 of node[1-3]") {
		t.Error("the others were not left to save, or not started again")
	}
}

// Whole nodes with GPUs.
func TestGPUs(t *testing.T) {
	w := newStandIn(t, "plan: code 0")
	w.job.CPUsPerNode, w.job.GPUsPerNode = 0, 2
	w.submit()
	w.ends("COMPLETED", "0:0", "0")
	if n := strings.Count(w.log(), ", 4 CPUs, 2 GPUs\n"); n != nodes {
		t.Errorf("%d agents have all CPUs and GPUs of their node, want %d", n, nodes)
	}
}

// The time limit: told in time, the agents save, and the job goes on after a requeue.
func TestTimeLimit(t *testing.T) {
	if !long {
		t.Skip("waits half a minute for the time limit (DDPRUN_TEST_ALL=1)")
	}
	w := newStandIn(t, "plan: wait", "plan-2.0: code 0")
	w.job.Time = "1" // USR1 comes 50 s before its end, to the minute
	w.submit()
	w.says("got USR1", nodes)
	w.says("queued again (time 2 of 5)", 1)
	w.ends("COMPLETED", "0:0", "2")
}

// A fixed number of nodes: Slurm ends the job when one is off, and starts it again on others.
func TestPowerOffFixed(t *testing.T) {
	if !long {
		t.Skip("waits for SlurmdTimeout (DDPRUN_TEST_ALL=1)")
	}
	w := newStandIn(t, "plan: wait", "plan-1.0: code 0")
	w.job.MinNodes, w.job.MaxNodes = 2, 2
	w.submit()
	w.says("agent 0.0 on", 2)
	script(t, "power", "node2", "off")
	w.ends("COMPLETED", "0:0", "1")
	if !strings.Contains(w.log(), "agent 1.0 on node3, 1 of node[1,3]") {
		t.Error("not started on the third node")
	}
}

// An elastic job goes on: the agents on the other nodes are left alone, and what is started again later runs on these.
func TestPowerOffElastic(t *testing.T) {
	if !long {
		t.Skip("waits for SlurmdTimeout (DDPRUN_TEST_ALL=1)")
	}
	w := newStandIn(t, "plan: wait", "plan-0.1: code 0")
	w.job.MinNodes = 2
	w.submit()
	w.says("agent 0.0 on", nodes) // as many as there are, not the least
	script(t, "power", "node2", "off")
	until(t, "the loss", func() bool { return w.field("NumNodes") == "2" })
	if strings.Contains(w.log(), "got TERM") {
		t.Error("the others were told to end")
	}
	// Two agents crash, so that the script starts them again.
	on(t, "ctl", "scancel", "--signal=KILL", w.id+".0")
	w.ends("COMPLETED", "0:0", "0")
	if !strings.Contains(w.log(), "agent 0.1 on node3, 1 of node[1,3]") {
		t.Error("not started again on the two that are left")
	}
}

// The first node runs the script and srun. Without them the agents go on, and when they have ended the job is queued again.
func TestPowerOffFirst(t *testing.T) {
	if !long {
		t.Skip("waits for SlurmdTimeout (DDPRUN_TEST_ALL=1)")
	}
	w := newStandIn(t, "plan: wait", "plan-1.0: code 0")
	w.job.MinNodes = 2
	w.submit()
	w.says("agent 0.0 on", nodes)
	script(t, "power", "node1", "off")
	until(t, "the loss", func() bool { return w.field("NumNodes") == "2" })
	on(t, "ctl", "scancel", "--signal=USR1", w.id)
	w.ends("COMPLETED", "0:0", "1")
	if !strings.Contains(w.log(), "agent 1.0 on node2, 0 of node[2-3]") {
		t.Error("not started on the two that are left")
	}
}

// The first node is lost, and the agents on all others crash before they can say how the run ended: the job is queued again all the same, by
// Slurm where the number of nodes is fixed, else by the last task.
func TestPowerOffFirstAndCrash(t *testing.T) {
	if !long {
		t.Skip("waits for SlurmdTimeout (DDPRUN_TEST_ALL=1)")
	}
	for _, fewest := range []int{2, nodes} {
		t.Run(fmt.Sprint("at least ", fewest), func(t *testing.T) {
			w := newStandIn(t, "plan: wait", "plan-1.0: code 0")
			w.job.MinNodes, w.job.MaxNodes = fewest, nodes
			w.submit()
			w.says("agent 0.0 on", nodes)
			script(t, "power", "node1", "off")
			for _, pid := range w.standIns() {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Error(err)
				}
			}
			if fewest == nodes { // it wants all of them to start again
				until(t, "the loss", func() bool { return w.field("Restarts") == "1" })
				script(t, "power", "node1", "on")
			}
			w.ends("COMPLETED", "0:0", "1")
		})
	}
}

// standIns are the processes of the agents, without what has started them.
func (w *work) standIns() (pids []int) {
	w.t.Helper()
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		text, _ := os.ReadFile(file) // one that has ended has none
		if args := strings.Split(string(text), "\x00"); len(args) > 1 && args[1] == w.path("agent") {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				w.t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	if len(pids) != nodes-1 {
		w.t.Fatalf("%d agents run, want %d", len(pids), nodes-1)
	}
	return pids
}
