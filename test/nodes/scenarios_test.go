package nodes

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// started has agents on all hosts of a run, in its steps.
func started(t *testing.T, r *training, step int64) {
	t.Helper()
	r.startAll()
	r.inSteps(step)
}

// inSteps waits until a step was logged. The run must not be over.
func (r *training) inSteps(step int64) {
	r.t.Helper()
	if !r.reaches(step) {
		r.t.Fatalf("the run is over already\n%s", r.log())
	}
}

// finish waits for the end of agents with 0 and compares the run with the undisturbed one.
func (r *training) finish(want result, agents ...*agent) {
	r.t.Helper()
	r.codes(agents, 0)
	r.compare(want)
	r.nothingLeft()
	for _, rec := range r.records() {
		r.t.Logf("generation %d from step %d, %d ranks: %s", rec.Generation, rec.Start, rec.World, rec.Cause)
	}
	if r.t.Failed() {
		r.t.Log(r.log())
	}
}

func onlyLong(t *testing.T) {
	t.Helper()
	if !long {
		t.Skip("DDPRUN_TEST_ALL=1 runs it")
	}
}

// One of two nodes is lost, be it the one that all find each other through; the other one goes on.
func TestOneOfTwoSurvives(t *testing.T) {
	for lost := range 2 {
		t.Run(fmt.Sprint("host", lost, " is lost"), func(t *testing.T) {
			onlyLong(t)
			want := wantUndisturbed(t, steps)
			r := newTraining(t, newCluster(t, 2), nil)
			r.nnodes = "1:2"
			started(t, r, 60)
			r.hosts[lost].powerOff()
			r.finish(want, r.agents[1-lost])
		})
	}
}

// Eight nodes of one rank each, with node ranks and without, scale to three.
func TestEightScaleToThree(t *testing.T) {
	for _, ranked := range []bool{true, false} {
		t.Run(fmt.Sprint("node ranks: ", ranked), func(t *testing.T) {
			onlyLong(t)
			want := wantUndisturbed(t, steps)
			r := newTraining(t, newCluster(t, 8), nil)
			r.nnodes, r.nproc = "3:8", 1
			for i, h := range r.hosts {
				if !ranked {
					i = -1
				}
				r.start(h, i)
			}
			r.inSteps(60)
			if records := r.records(); records[len(records)-1].World != 8 {
				t.Errorf("%d ranks, want 8", records[len(records)-1].World)
			}
			for _, i := range []int{0, 2, 3, 5, 6} {
				r.hosts[i].powerOff()
			}
			r.finish(want, r.agents[1], r.agents[4], r.agents[7])
			if records := r.records(); records[len(records)-1].World != 3 {
				t.Errorf("%d ranks, want 3", records[len(records)-1].World)
			}
		})
	}
}

// Everything is lost and started again on other hosts, at other addresses: the run goes on, with higher numbers.
func TestAllStartedAgainElsewhere(t *testing.T) {
	onlyLong(t)
	want := wantUndisturbed(t, steps)
	r := newTraining(t, newCluster(t, 3), nil)
	started(t, r, 60)
	for round := range 2 {
		before := r.records()
		for _, h := range r.hosts {
			h.powerOff()
		}
		var again []*agent
		for rank := range 3 {
			h := r.add(fmt.Sprintf("other%d-%d", round, rank))
			if rank == 0 {
				r.join = h.name
			}
			again = append(again, r.start(h, rank))
		}
		r.eventually("another generation", func() bool { return len(r.records()) > len(before) })
		after := r.records()
		if last, next := before[len(before)-1], after[len(before)]; next.Generation <= last.Generation || next.Start == 0 {
			t.Errorf("generation %d from step %d follows %d", next.Generation, next.Start, last.Generation)
		}
		if round == 0 {
			r.inSteps(before[len(before)-1].Start + 150)
			continue
		}
		r.finish(want, again...)
	}
}

// A node is told to leave and comes again, as a pod does, also the one that coordinates: the others stay for it.
func TestLeaversReturn(t *testing.T) {
	onlyLong(t)
	want := wantUndisturbed(t, steps)
	r := newTraining(t, newCluster(t, 3), nil)
	r.flags = []string{"--leavers-return"}
	started(t, r, 60)
	agents := slices.Clone(r.agents)
	for round, leaver := range []int{2, r.coordinator()} {
		agents[leaver].signal(syscall.SIGTERM)
		r.codes(agents[leaver:leaver+1], 75)
		agents[leaver] = r.start(r.hosts[leaver], leaver)
		r.eventually("the next generation", func() bool { return len(r.records()) == round+2 })
		r.inSteps(r.records()[round+1].Start + 30)
	}
	r.finish(want, agents...)
	if records := r.records(); len(records) != 3 {
		t.Errorf("%d generations, want 3", len(records))
	}
}

// Rank 0 stands still between the look whether its generation is still the newest and the renaming that makes its checkpoint appear; its agent too. The others
// go on. Before they come to that step, or after, the old one goes on: what the run comes to is untouched.
func TestStoppedBeforeRenaming(t *testing.T) {
	const step = 75
	for _, past := range []bool{false, true} {
		t.Run(fmt.Sprint("the next generation is past it: ", past), func(t *testing.T) {
			onlyLong(t)
			want := wantUndisturbed(t, steps)
			r := newTraining(t, newCluster(t, 3), nil)
			r.nnodes, r.flags = "2:3", []string{"--last-call", "1s"}
			started(t, r, step-15)
			rank0, old := r.worker(0)
			h := holdRename(t, rank0, "save-", fmt.Sprint("checkpoint-", step))
			old.signal(syscall.SIGSTOP)
			name := fmt.Sprintf("out/checkpoint-%d", step)
			if _, err := os.Stat(r.path(name)); err == nil {
				t.Fatal("the checkpoint was there too early")
			}
			r.eventually("the next generation", func() bool { return len(r.records()) > 1 })
			if past {
				r.eventually("its checkpoint", func() bool { _, err := os.Stat(r.path(name)); return err == nil })
				r.inSteps(step + 30)
			} else {
				r.eventually("its start", func() bool {
					starts, _ := filepath.Glob(r.path("out/.ddprun/start-1-*"))
					return len(starts) > 0
				})
			}
			h.letGo()
			old.signal(syscall.SIGCONT)
			if _, err := os.Stat(r.path(name)); err == nil && !past {
				t.Log("the old generation's checkpoint has appeared")
			}
			r.finish(want, r.agents...)
		})
	}
}

// A checkpoint cannot be put into place once, as on a file system that does not answer for a while: that is not taken for a full disk, and the run goes on from the checkpoint before.
func TestFileSystemFailsOnce(t *testing.T) {
	onlyLong(t)
	const step = 75
	want := wantUndisturbed(t, steps)
	r := newTraining(t, newCluster(t, 3), nil)
	started(t, r, step-15)
	rank0, _ := r.worker(0)
	failRename(t, rank0, "save-", fmt.Sprint("checkpoint-", step), syscall.EIO)
	r.finish(want, r.agents...)
	records := r.records()
	if len(records) != 2 || records[1].Start != step-saveSteps {
		t.Errorf("%d generations, want 2, and the second from step %d", len(records), step-saveSteps)
	}
	if said := r.log(); !strings.Contains(said, "input/output error") {
		t.Errorf("nobody says why\n%s", said)
	}
}

// A worker is killed: the ranks of other hosts say which connection broke, by ranks and hosts.
func TestPairOfACollective(t *testing.T) {
	r := newTraining(t, newCluster(t, 2), settings{"max_steps": int64(1000000), "eval_steps": 1000000})
	r.nproc, r.flags = 1, []string{"--max-restarts", "0"}
	started(t, r, 10)
	rank1, _ := r.worker(1)
	syscall.Kill(rank1, syscall.SIGKILL)
	r.codes(r.agents, 1, 137)
	logs, _ := filepath.Glob(r.path("out/logs/attempt_0/0/*"))
	said := ""
	for _, path := range logs {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		said += string(content)
	}
	if !strings.Contains(said, "between rank 0 (host0) and rank 1 (host1): ") {
		t.Errorf("rank 0 does not name the pair:\n%s", said)
	}
}

// worker returns the process of a rank of the newest attempt, and its agent.
func (r *training) worker(rank int) (int, *agent) {
	r.t.Helper()
	for _, a := range r.agents {
		for _, pid := range a.host.processes("ddprun-worker") {
			environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			if err == nil && strings.Contains("\x00"+string(environ), fmt.Sprintf("\x00RANK=%d\x00", rank)) {
				return pid, a
			}
		}
	}
	r.t.Fatalf("rank %d is nowhere\n%s", rank, r.log())
	return 0, nil
}

// The agent of a node is killed while one of its workers stands still: nothing of it is left on the host soon after.
func TestNoOrphans(t *testing.T) {
	r := newTraining(t, newCluster(t, 2), settings{"max_steps": int64(1000000), "eval_steps": 1000000})
	started(t, r, 10)
	for _, a := range r.agents {
		workers := a.host.processes("ddprun-worker")
		syscall.Kill(workers[0], syscall.SIGSTOP)
		killed := time.Now()
		a.signal(syscall.SIGKILL)
		eventually(t, "an empty host", func() string { return fmt.Sprint(a.host.processes("")) + r.log() }, func() bool { return len(a.host.processes("")) == 0 })
		t.Logf("%s was empty %v after its agent", a.host.name, time.Since(killed).Round(time.Millisecond))
	}
}

// The agent is PID 1, as in a container: it reaps what others leave to it.
func TestFirstProcessReaps(t *testing.T) {
	r := newTraining(t, newCluster(t, 2), settings{"max_steps": int64(1000000), "eval_steps": 1000000})
	r.start(r.hosts[0], 0)
	container := r.startFirstProcess(r.hosts[1], 1)
	r.inSteps(5)
	pid := container.firstProcess()
	inside, err := newRoom(enterAll(pid))
	if err != nil {
		t.Fatal(err)
	}
	defer inside.close()
	orphan := &host{c: r.cluster, name: "container", pid: pid, room: inside}
	shell := orphan.start(nil, "/bin/sh", "-c", "setsid sleep 0.2 & echo up")
	shell.until("up")
	shell.wait()
	eventually(t, "the orphan to be reaped", r.log, func() bool { return !anyLeft(pid, "sleep") })
	if !anyLeft(pid, "ddprun-worker") {
		t.Error("the workers are gone")
	}
	r.agents[0].signal(syscall.SIGUSR1)
	syscall.Kill(pid, syscall.SIGUSR1)
	r.codes(r.agents, 75)
}

// anyLeft tells whether a process of this name, a zombie too, is in the PID namespace of another one.
func anyLeft(pid int, comm string) bool {
	home, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	for _, other := range allProcesses() {
		name, _ := nameAndState(other)
		if own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", other)); err == nil && own == home && name == comm {
			return true
		}
	}
	return false
}

// An agent with another key, garbage and a flood of connections do nothing but a bounded number of lines in the log.
func TestStrangers(t *testing.T) {
	onlyLong(t)
	want := wantUndisturbed(t, steps)
	r := newTraining(t, newCluster(t, 4), nil)
	r.nnodes = "3"
	for rank, h := range r.hosts[:3] {
		r.start(h, rank)
	}
	r.inSteps(20)
	began := time.Now()
	stranger := r.hosts[3]
	var addresses []string
	for _, h := range r.hosts[:3] {
		addresses = append(addresses, h.ip.String()+":29400", h.ip.String()+":29401")
	}
	garbage := stranger.probe(append([]string{"garbage"}, addresses...)...)
	r.write("other-key", strings.Repeat("another key ", 4))
	if err := os.Chmod(r.path("other-key"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := r.start(stranger, -1, "--key-file", "other-key", "--join-timeout", "5s")
	if code := garbage.wait(); code != 0 {
		t.Errorf("exit code %d\n%s", code, garbage.log())
	}
	t.Log(garbage.log())
	own := r.agents[:3]
	r.codes(own, 0)
	if code := other.wait(); code == 0 || code == -1 {
		t.Errorf("the agent with another key: exit code %d\n%s", code, other.log())
	}
	if _, said := other.find(began, "key"); !said {
		t.Errorf("the agent with another key does not say why\n%s", other.log())
	}
	if records := r.records(); len(records) != 1 {
		t.Errorf("%d generations, want 1", len(records))
	}
	for _, a := range own {
		lines := 0
		for _, l := range a.said() {
			if strings.Contains(l.text, " WRN ") || strings.Contains(l.text, " ERR ") {
				lines++
			}
		}
		t.Logf("%s said %d lines of the strangers", a.host.name, lines)
		if limit := 3 * int(time.Since(began)/time.Second); lines > limit {
			t.Errorf("%s said %d lines, more than %d\n%s", a.host.name, lines, limit, a.log())
		}
	}
	r.finish(want, own...)
}

// Every node's agent tells of the whole run.
func TestStatus(t *testing.T) {
	r := newTraining(t, newCluster(t, 3), settings{"max_steps": int64(1000000), "eval_steps": 1000000})
	started(t, r, 30)
	for _, h := range r.hosts {
		var status struct {
			Host         string
			Generation   int
			World        int `json:"world_size"`
			Nodes, Ranks []struct{ Host, State string }
		}
		p := h.start(h.environment(), filepath.Join(programs(t), "ddprun"), "status", "--json", "out")
		if code := p.wait(); code != 0 {
			t.Fatalf("%s: exit code %d\n%s", h.name, code, p.log())
		}
		if err := json.Unmarshal([]byte(p.said()[0].text), &status); err != nil {
			t.Fatalf("%s: %v\n%s", h.name, err, p.log())
		}
		if status.Host != h.name || status.Generation != 0 || status.World != 6 || len(status.Nodes) != 3 || len(status.Ranks) != 6 {
			t.Errorf("%s says %+v", h.name, status)
		}
		for i, rank := range status.Ranks {
			if want := r.hosts[i/ranksPerNode].name; rank.Host != want {
				t.Errorf("%s says that rank %d is on %q, not on %s", h.name, i, rank.Host, want)
			}
		}
	}
	for _, a := range r.agents {
		a.signal(syscall.SIGUSR1)
	}
	r.codes(r.agents, 75)
}

// A long run on saturated cores: nobody is taken for dead. DDPRUN_NODES_SATURATE says for how many seconds.
func TestNoFalseDeath(t *testing.T) {
	seconds := number("DDPRUN_NODES_SATURATE", 0)
	if seconds == 0 {
		t.Skip("DDPRUN_NODES_SATURATE=600 runs it for ten minutes")
	}
	r := newTraining(t, newCluster(t, 3), settings{"max_steps": int64(10000000), "sample_log": false})
	started(t, r, 5)
	for range 8 {
		r.hosts[0].start(nil, "/bin/sh", "-c", "while :; do :; done")
	}
	time.Sleep(time.Duration(seconds) * time.Second)
	step := r.step()
	for _, a := range r.agents {
		a.signal(syscall.SIGUSR1)
	}
	r.codes(r.agents, 75)
	if records := r.records(); len(records) != 1 {
		t.Errorf("%d generations, want 1\n%s", len(records), r.log())
	}
	t.Logf("%d steps in %d s", step, seconds)
}
