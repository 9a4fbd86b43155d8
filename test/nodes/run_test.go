package nodes

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/ddprun/ddprun/test/kit"
)

const (
	ranksPerNode = 2
	lanes        = 12
	steps        = 400 // of a run, if nothing else is said
	longSteps    = 900 // of one that goes on before a fault is noticed or while it lasts, more than once
	saveSteps    = 25
	evalSteps    = 100
)

// training is a run of the tiny model on a cluster: some 15 s on two cores, with an evaluation of about a second every 100 steps and a checkpoint every 25.
type training struct {
	*cluster
	steps  int64
	nnodes string
	nproc  int
	join   string   // where agents find each other
	flags  []string // more, for every agent
	agents []*agent // all that were started, in order
}

// agent is a ddprun under way.
type agent struct {
	*process
	rank int // its node rank; -1: it was given none
}

// settings are keys of train.yaml.
type settings map[string]any

// newTraining prepares the shared directory for a run; start starts its agents.
func newTraining(t testing.TB, c *cluster, changes settings) *training {
	t.Helper()
	r := &training{cluster: c, steps: steps, nnodes: fmt.Sprint(len(c.hosts)), nproc: ranksPerNode, join: c.hosts[0].name}
	kit.WriteModel(t, r.write)
	r.write("text.txt", kit.Lines(1, 600))
	r.write("heldout.txt", kit.Lines(2, 8000))
	r.write("key", strings.Repeat("an example of a key. ", 3))
	if err := os.Chmod(r.path("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	all := settings{"model": "model", "data": "text.txt", "text_unit": "line", "sample_unit": "document", "output_dir": "out",
		"per_device_train_batch_size": 2, "global_batch_size": 2 * lanes, "max_steps": r.steps, "learning_rate": 1e-3, "warmup_steps": 2,
		"logging_steps": 1, "save_steps": saveSteps, "save_total_limit": 2, "eval_data": "heldout.txt", "eval_steps": evalSteps,
		"threads_per_rank": 1, "sample_log": true, "ddp_timeout": 60}
	maps.Copy(all, changes)
	if steps, ok := all["max_steps"].(int64); ok {
		r.steps = steps
	}
	text, err := yaml.Marshal(map[string]any(all))
	if err != nil {
		t.Fatal(err)
	}
	r.write("train.yaml", string(text))
	return r
}

func (c *cluster) write(name, content string) {
	c.t.Helper()
	err := os.MkdirAll(filepath.Dir(c.path(name)), 0o755)
	if err == nil {
		err = os.WriteFile(c.path(name), []byte(content), 0o644)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) read(name string) string {
	c.t.Helper()
	content, err := os.ReadFile(c.path(name))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(content)
}

// start starts an agent on a host.
func (r *training) start(h *host, rank int, flags ...string) *agent {
	r.t.Helper()
	a := &agent{h.start(h.environment(), filepath.Join(programs(r.t), "ddprun"), r.arguments(rank, flags...)...), rank}
	r.agents = append(r.agents, a)
	return a
}

// environment makes a host's own directories the programs'.
func (h *host) environment() []string {
	runtime := h.path("run")
	h.must("make a directory", os.MkdirAll(runtime, 0o700))
	return []string{"TMPDIR=" + h.path(""), "XDG_RUNTIME_DIR=" + runtime}
}

func (r *training) arguments(rank int, flags ...string) []string {
	args := []string{"--nnodes", r.nnodes, "--nproc", fmt.Sprint(r.nproc), "--join", r.join, "--key-file", "key", "--port", "29400"}
	if rank >= 0 {
		args = append(args, "--node-rank", fmt.Sprint(rank))
	}
	return append(append(append(args, r.flags...), flags...), "train.yaml")
}

// startFirstProcess starts an agent on a host as PID 1 of a namespace within, as a container does.
func (r *training) startFirstProcess(h *host, rank int) *agent {
	r.t.Helper()
	args := append([]string{filepath.Join(programs(r.t), "ddprun")}, r.arguments(rank)...)
	a := &agent{h.start(append(h.environment(), roleVariable+"=container"), "/proc/self/exe", args...), rank}
	r.agents = append(r.agents, a)
	return a
}

// firstProcess is the agent itself, of startFirstProcess.
func (a *agent) firstProcess() int {
	a.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", a.cmd.Process.Pid, a.cmd.Process.Pid))
	if err != nil {
		a.t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(status), &pid); err != nil {
		a.t.Fatalf("no process in the container: %v\n%s", err, a.log())
	}
	return pid
}

// startAll starts an agent on every host, whose number is its node rank.
func (r *training) startAll() {
	r.t.Helper()
	for i, h := range r.hosts {
		r.start(h, i)
	}
}

// log is what all agents have said, in the order in which it came.
func (r *training) log() string {
	var all []line
	var b strings.Builder
	for i, a := range r.agents {
		fmt.Fprintf(&b, "agent %d: node rank %d on %s, ended: %t\n", i, a.rank, a.host.name, a.ended())
		for _, l := range a.said() {
			if !strings.Contains(l.text, "INF train ") { // hundreds
				all = append(all, line{l.at, fmt.Sprintf("agent %d: %s", i, l.text)})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b line) int { return a.at.Compare(b.at) })
	b.WriteString(timed(all))
	return b.String()
}

// eventually waits for a condition on the run.
func (r *training) eventually(what string, condition func() bool) {
	r.t.Helper()
	eventually(r.t, what, r.log, condition)
}

// reaches waits until a step was logged; false: the run is over.
func (r *training) reaches(step int64) bool {
	r.t.Helper()
	r.eventually(fmt.Sprint("step ", step), func() bool { return r.step() >= step || r.over() })
	return !r.over()
}

func (r *training) over() bool { return r.step() == r.steps }

// codes waits for the end of agents, as long as the run gets on, and fails the test where one did not exit with one of the codes.
func (r *training) codes(agents []*agent, want ...int) {
	r.t.Helper()
	step, limit := r.step(), time.Now().Add(patience)
	for _, a := range agents {
		for !a.ended() {
			time.Sleep(100 * time.Millisecond)
			if now := r.step(); now != step {
				step, limit = now, time.Now().Add(patience)
			}
			if time.Now().After(limit) {
				r.t.Fatalf("the agent of node rank %d on %s does not end\n%s", a.rank, a.host.name, r.log())
			}
		}
		if code := a.wait(); !slices.Contains(want, code) {
			r.t.Errorf("node rank %d on %s: exit code %d, want %d", a.rank, a.host.name, code, want)
		}
	}
}

// hosts0 are the hosts that the run began with.
func (r *training) hosts0() []*host {
	n, _ := strconv.Atoi(r.nnodes[strings.IndexByte(r.nnodes, ':')+1:])
	return r.hosts[:n]
}

// nothingLeft fails the test where a process is left on a host.
func (r *training) nothingLeft() {
	r.t.Helper()
	for _, h := range r.hosts {
		if h.off {
			continue
		}
		eventually(r.t, h.name+" to be empty", func() string { return fmt.Sprint(h.processes("")) + "\n" + r.log() }, func() bool { return len(h.processes("")) == 0 })
	}
}
