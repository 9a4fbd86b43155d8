package nodes

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// phase is a part of a run in which a fault can strike.
type phase struct {
	name string
	// reach waits for the phase, and a little into it.
	reach func(*match)
}

// later waits for up to limit.
func (m *match) within(limit time.Duration) { time.Sleep(time.Duration(m.draw.Int64N(int64(limit)))) }

// reachStep waits until a step was logged; the test fails if the run ends before.
func (m *match) reachStep(step int64) {
	m.t.Helper()
	m.eventually(fmt.Sprint("step ", step), func() bool { return m.step() >= step })
	if m.step() == m.steps {
		m.t.Fatalf("the run was over before the fault\n%s", m.log())
	}
}

var phases = []phase{
	{"start-up", func(m *match) {
		m.eventually("workers", func() bool { return len(m.hosts[2].processes("ddprun-worker")) >= m.nproc && len(m.records()) > 0 })
		m.within(1500 * time.Millisecond)
	}},
	{"training", func(m *match) {
		m.reachStep(20 + m.draw.Int64N(m.steps/2))
		m.within(200 * time.Millisecond)
	}},
	{"evaluation", func(m *match) {
		at := 100 * (1 + m.draw.Int64N(2)) // the evaluation follows the step
		m.reachStep(at)
		m.within(300 * time.Millisecond)
	}},
	{"checkpointing", func(m *match) {
		m.reachStep(20 + m.draw.Int64N(m.steps/2))
		m.eventually("a checkpoint under way", func() bool {
			saving, _ := filepath.Glob(m.path("out/.ddprun/save-g*-checkpoint-*"))
			return len(saving) > 0
		})
		m.within(2 * time.Millisecond)
	}},
}

// fault is what befalls a run.
type fault struct {
	name    string
	elastic bool // two nodes of three are enough, and what has failed stays away
	// strike does it. What is to come later goes into m.later.
	strike func(m *match)
}

// match is a run that a fault befalls.
type match struct {
	*training
	draw   *rand.Rand
	struck time.Time
	node   int             // the node rank that the fault befalls
	gone   map[*agent]bool // need not end with 0
	after  []func()        // heals, once the fault has had its time
	place  map[int]*host   // where a node rank is now
	now    map[int]*agent  // and its agent
	heals  time.Duration   // when
}

// victim draws a node for the fault; coordinator: that one.
func (m *match) victim(coordinator bool) *agent {
	m.t.Helper()
	leader := m.coordinator()
	m.node = leader
	for !coordinator && m.node == leader {
		m.node = m.draw.IntN(3)
	}
	return m.now[m.node]
}

// again starts an agent of a node rank, as a scheduler does.
func (m *match) again(h *host, rank int) {
	m.t.Helper()
	m.place[rank], m.now[rank] = h, m.start(h, rank)
}

// killAgent kills the agent of a node; a scheduler starts it again after a second, unless two nodes are enough.
func killAgent(coordinator, elastic bool) func(*match) {
	return func(m *match) {
		a := m.victim(coordinator)
		m.gone[a] = true
		a.signal(syscall.SIGKILL)
		if !elastic {
			m.later(time.Second, func() { m.again(a.host, a.rank) })
		}
	}
}

// later has something done some time after the fault.
func (m *match) later(after time.Duration, f func()) { m.heals, m.after = after, append(m.after, f) }

// otherNode is a node rank that is not node.
func (m *match) otherNode(node int) int { return (node + 1 + m.draw.IntN(2)) % 3 }

var faults = []fault{
	{"worker killed", false, func(m *match) {
		m.node = m.draw.IntN(3)
		workers := m.place[m.node].processes("ddprun-worker")
		if len(workers) == 0 {
			m.t.Fatalf("no worker to kill\n%s", m.log())
		}
		syscall.Kill(workers[m.draw.IntN(len(workers))], syscall.SIGKILL)
	}},
	{"agent killed", false, killAgent(false, false)},
	{"agent killed for good", true, killAgent(false, true)},
	{"coordinator killed", false, killAgent(true, false)},
	{"coordinator killed for good", true, killAgent(true, true)},
	{"worker stopped", false, func(m *match) {
		m.node = m.draw.IntN(3)
		workers := m.place[m.node].processes("ddprun-worker")
		if len(workers) == 0 {
			m.t.Fatalf("no worker to stop\n%s", m.log())
		}
		pid := workers[m.draw.IntN(len(workers))]
		syscall.Kill(pid, syscall.SIGSTOP)
		m.later(6*time.Second, func() { syscall.Kill(pid, syscall.SIGCONT) }) // it may be gone
	}},
	{"agent stopped", false, func(m *match) {
		a := m.victim(false)
		a.signal(syscall.SIGSTOP)
		m.later(8*time.Second, func() { a.signal(syscall.SIGCONT) })
	}},
	{"coordinator stopped", false, func(m *match) {
		a := m.victim(true)
		a.signal(syscall.SIGSTOP)
		m.later(8*time.Second, func() { a.signal(syscall.SIGCONT) })
	}},
	{"node cut off", false, func(m *match) {
		h := m.victim(m.draw.IntN(3) == 0).host
		h.cut()
		m.later(8*time.Second, h.plug)
	}},
	{"node cut off for good", true, func(m *match) {
		a := m.victim(m.draw.IntN(3) == 0)
		a.host.cut()
		m.gone[a] = true
	}},
	{"pair cut", false, func(m *match) {
		a := m.victim(m.draw.IntN(2) == 0)
		b := m.now[m.otherNode(m.node)]
		cutPair(a.host, b.host)
		m.later(8*time.Second, func() { joinPair(a.host, b.host) })
	}},
	{"pair cut for good", true, func(m *match) {
		a := m.victim(m.draw.IntN(2) == 0)
		b := m.now[m.otherNode(m.node)]
		cutPair(a.host, b.host)
		m.gone[a], m.gone[b] = true, true
	}},
	{"one way lost", false, func(m *match) {
		a := m.victim(m.draw.IntN(2) == 0)
		b := m.now[m.otherNode(m.node)]
		a.host.lose(b.host)
		m.later(8*time.Second, func() { a.host.find(b.host) })
	}},
	{"one way lost for good", true, func(m *match) {
		a := m.victim(m.draw.IntN(2) == 0)
		b := m.now[m.otherNode(m.node)]
		a.host.lose(b.host)
		m.gone[a], m.gone[b] = true, true
	}},
	{"slow cable", false, func(m *match) {
		h := m.victim(m.draw.IntN(3) == 0).host
		h.slowDown(200*time.Millisecond, 0.05, m.draw.Uint64())
		m.later(6*time.Second, h.speedUp)
	}},
	{"new address after power off", false, func(m *match) {
		a := m.victim(m.draw.IntN(2) == 0)
		m.gone[a] = true
		a.host.powerOff()
		m.later(time.Second, func() { m.again(a.host.replace(), a.rank) })
	}},
	{"new address while cut off", false, func(m *match) {
		a := m.victim(m.draw.IntN(2) == 0)
		m.gone[a] = true // it waits, or hears of the end
		a.host.cut()
		m.later(time.Second, func() {
			m.again(a.host.replace(), a.rank)
			time.Sleep(12 * time.Second)
			a.host.plug()
		})
	}},
}

// undisturbed is the result of the run that no fault befalls.
var undisturbed = sync.OnceValues(func() (result, string) {
	t := &recorder{}
	var found result
	func() {
		defer t.recover()
		c := newCluster(t, 3)
		r := newTraining(t, c, nil)
		began := time.Now()
		r.startAll()
		r.codes(r.agents, 0)
		if t.said != "" {
			t.Fatal(r.log())
		}
		found = r.result()
		fmt.Printf("the undisturbed run took %v\n", time.Since(began).Round(time.Second/10))
	}()
	t.cleanUp()
	return found, t.said
})

func wantUndisturbed(t *testing.T) result {
	t.Helper()
	want, wrong := undisturbed()
	if wrong != "" {
		t.Fatalf("the undisturbed run: %s", wrong)
	}
	return want
}

// quick are the cases of the quick tier.
var quick = []string{"worker killed/training", "coordinator killed for good/checkpointing", "new address while cut off/evaluation"}

// Every fault in every phase: the run ends with what an undisturbed one comes to.
func TestFaults(t *testing.T) {
	newCluster(t, 0) // skips where there cannot be hosts
	for round := range repeat {
		for i, f := range faults {
			for j, p := range phases {
				name := f.name + "/" + p.name
				if !long && !slices.Contains(quick, name) {
					continue
				}
				t.Run(name, func(t *testing.T) { befall(t, f, p, rand.New(rand.NewPCG(seed, round<<16|uint64(i)<<8|uint64(j)))) })
			}
		}
	}
	times.print()
}

func befall(t *testing.T, f fault, p phase, draw *rand.Rand) {
	want := wantUndisturbed(t)
	c := newCluster(t, 3)
	m := &match{training: newTraining(t, c, nil), draw: draw, gone: map[*agent]bool{}, place: map[int]*host{}, now: map[int]*agent{}}
	m.flags = []string{"--rejoin-timeout", "90s", "--last-call", "3s"}
	if f.elastic {
		m.nnodes = "2:3"
	}
	if draw.IntN(2) == 0 {
		c.hosts[1].setClock(1000 * time.Hour)
	}
	for rank, h := range c.hosts {
		m.again(h, rank)
	}
	p.reach(m)
	m.struck = time.Now()
	f.strike(m)
	if len(m.after) > 0 {
		time.Sleep(time.Until(m.struck.Add(m.heals)))
		for _, heal := range m.after {
			heal()
		}
	}
	var stayed, gone []*agent
	for _, a := range m.agents {
		if m.gone[a] {
			gone = append(gone, a)
		} else {
			stayed = append(stayed, a)
		}
	}
	m.codes(stayed, 0)
	m.compare(want)
	m.codes(gone, 0, 75, -1)
	m.nothingLeft()
	m.measure(f.name)
	for _, rec := range m.records() {
		t.Logf("generation %d from step %d, %d ranks: %s", rec.Generation, rec.Start, rec.World, rec.Cause)
	}
	if t.Failed() || os.Getenv("DDPRUN_NODES_LOGS") == "1" {
		t.Logf("struck at %s: %s in %s, node rank %d\n%s", m.struck.Format("05.000"), f.name, p.name, m.node, m.log())
	}
}

// measure notes how long it took until an agent said that something is wrong, and until the next step.
func (m *match) measure(name string) {
	detection, next := m.took(m.struck)
	if detection > 0 {
		times.add(name, "detection", detection)
	}
	if next > 0 {
		times.add(name, "next step", next)
	}
}

// took returns how long after a fault an agent said that something is wrong, and a step was logged by workers that were started since; 0: never.
func (r *training) took(struck time.Time) (detection, next time.Duration) {
	var all []line
	for _, a := range r.agents {
		said := a.said()
		first, _ := slices.BinarySearchFunc(said, struck, func(l line, at time.Time) int { return l.at.Compare(at) })
		all = append(all, said[first:]...)
	}
	slices.SortStableFunc(all, func(a, b line) int { return a.at.Compare(b.at) })
	started := false
	for _, l := range all {
		after := l.at.Sub(struck)
		switch own := !strings.HasPrefix(l.text, "[rank "); {
		case own && detection == 0 && (strings.Contains(l.text, " WRN ") || strings.Contains(l.text, " ERR ")):
			detection = after
		case own && strings.Contains(l.text, " workers started "):
			started = true
		case !own && started && strings.Contains(l.text, " INF train "):
			return detection, after
		}
	}
	return detection, 0
}
