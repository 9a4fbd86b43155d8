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
	// reach waits for the phase, and a little into it; false: the run is over. The steps that it counts begin with the newest generation's.
	reach func(m *match) bool
}

// within waits for up to limit.
func (m *match) within(limit time.Duration) bool {
	time.Sleep(time.Duration(m.draw.Int64N(int64(limit))))
	return !m.over()
}

// fresh is a number of steps after which a generation has a checkpoint of its own: three faults without one between them end a run.
const fresh = saveSteps + 3

// phases begin with the one that every run begins with; the others come in any order.
var phases = []phase{
	{"start-up", func(m *match) bool {
		m.eventually("workers", func() bool { return len(m.place[2].processes("ddprun-worker")) >= m.nproc && len(m.records()) > 0 })
		return m.within(1500 * time.Millisecond)
	}},
	{"training", func(m *match) bool {
		return m.reaches(m.newest().Start+fresh+m.draw.Int64N(10)) && m.within(200*time.Millisecond)
	}},
	{"evaluation", func(m *match) bool {
		at := m.newest().Start + fresh + evalSteps - 1
		return m.reaches(at-at%evalSteps) && m.within(300*time.Millisecond) // the evaluation follows the step
	}},
	{"checkpointing", func(m *match) bool {
		m.reaches(m.newest().Start + fresh + m.draw.Int64N(10))
		m.eventually("a checkpoint under way", func() bool {
			saving, _ := filepath.Glob(m.path("out/.ddprun/save-g*-checkpoint-*"))
			return len(saving) > 0 || m.over()
		})
		return m.within(2 * time.Millisecond)
	}},
}

// fault is what befalls a run.
type fault struct {
	name string
	// elastic: two nodes of three are enough. They go on before what has failed comes back; after the last strike it stays away.
	elastic bool
	// steps are those of its match, if the machine is not so fast that they do not last.
	steps int64
	// strike does it. What mends it goes into later, back or calm.
	strike func(m *match)
}

// match is a run that a fault befalls, once in each phase.
type match struct {
	*training
	draw  *rand.Rand
	place map[int]*host  // where a node rank is now
	now   map[int]*agent // and its agent
	gone  map[*agent]bool
	hits  map[int]int // strikes by node rank

	// Of the newest strike:
	last   bool // the match's last
	struck time.Time
	node   int           // the node rank that it befell
	heals  time.Duration // how long after it later is done
	later  []func()
	back   []func() // done once the others have gone on
	calm   []func() // done once all is well again
}

// newest is the newest generation.
func (m *match) newest() record {
	m.t.Helper()
	all := m.records()
	if len(all) == 0 {
		m.t.Fatalf("no generation was claimed\n%s", m.log())
	}
	return all[len(all)-1]
}

// choose draws the node that a fault befalls, among those that were befallen least: a node that fails three times is left out.
func (m *match) choose(candidates ...int) int {
	least := slices.MinFunc(candidates, func(a, b int) int { return m.hits[a] - m.hits[b] })
	candidates = slices.DeleteFunc(candidates, func(node int) bool { return m.hits[node] > m.hits[least] })
	m.node = candidates[m.draw.IntN(len(candidates))]
	m.hits[m.node]++
	return m.node
}

// victim draws a node for the fault; coordinator: that one.
func (m *match) victim(coordinator bool) *agent {
	m.t.Helper()
	leader := m.coordinator()
	if coordinator {
		return m.now[m.choose(leader)]
	}
	return m.now[m.choose(m.otherNodes(leader)...)]
}

// anyone draws a node, which one in so many times is the coordinator.
func (m *match) anyone(times int) *agent {
	m.t.Helper()
	return m.victim(m.draw.IntN(times) == 0)
}

// otherNodes are the node ranks other than one.
func (m *match) otherNodes(node int) []int { return []int{(node + 1) % 3, (node + 2) % 3} }

// pair draws two nodes of which none was lost twice already: which one of a pair is, the run decides, and one that is lost a third time is left out for longer than the match.
func (m *match) pair() (a, b *agent) {
	m.t.Helper()
	nodes := []int{0, 1, 2}
	if lost := m.lostTwice(); lost >= 0 {
		nodes = m.otherNodes(lost)
	}
	m.draw.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	m.node = nodes[0]
	return m.now[nodes[0]], m.now[nodes[1]]
}

// lostTwice is a node that was lost twice; -1: none.
func (m *match) lostTwice() int {
	lost := map[int]int{}
	for _, r := range m.records() {
		for rank, h := range m.place {
			if r.Cause == h.name+" was lost" {
				if lost[rank]++; lost[rank] == 2 {
					return rank
				}
			}
		}
	}
	return -1
}

// worker draws a worker.
func (m *match) worker() int {
	m.t.Helper()
	h := m.place[m.choose(0, 1, 2)]
	var workers []int
	m.eventually("a worker on "+h.name, func() bool {
		workers = h.processes("ddprun-worker")
		return len(workers) > 0
	})
	return workers[m.draw.IntN(len(workers))]
}

// again starts an agent of a node rank, as a scheduler does.
func (m *match) again(h *host, rank int) {
	m.t.Helper()
	m.place[rank], m.now[rank] = h, m.start(h, rank)
}

// after has something done some time after the fault, or in an elastic match once the others have gone on; after the last strike of that, never.
func (m *match) after(delay time.Duration, heal func(), lost ...*agent) {
	switch {
	case m.nnodes == "3":
		m.heals, m.later = delay, append(m.later, heal)
	case m.last:
		for _, a := range lost {
			m.gone[a] = true
		}
	default:
		m.back = append(m.back, heal)
	}
}

func killAgent(coordinator bool) func(*match) {
	return func(m *match) {
		a := m.victim(coordinator)
		m.gone[a] = true
		a.signal(syscall.SIGKILL)
		m.after(time.Second, func() { m.again(a.host, a.rank) })
	}
}

func stopAgent(coordinator bool) func(*match) {
	return func(m *match) {
		a := m.victim(coordinator)
		a.signal(syscall.SIGSTOP)
		m.after(8*time.Second, func() { a.signal(syscall.SIGCONT) })
	}
}

func cutOff(m *match) {
	a := m.anyone(3)
	a.host.cut()
	m.after(8*time.Second, a.host.plug, a)
}

func cutAPair(m *match) {
	a, b := m.pair()
	cutPair(a.host, b.host)
	m.after(8*time.Second, func() {
		joinPair(a.host, b.host)
		m.takeBack(a, b)
	}, a, b)
}

func loseOneWay(m *match) {
	a, b := m.pair()
	a.host.lose(b.host)
	m.after(8*time.Second, func() {
		a.host.find(b.host)
		m.takeBack(a, b)
	}, a, b)
}

// takeBack starts the one of a pair again that is left out of an elastic run: that lasts a minute, but for an agent that is new.
func (m *match) takeBack(pair ...*agent) {
	m.t.Helper()
	if m.nnodes == "3" {
		return
	}
	members := m.newest().Members
	for _, a := range pair {
		if !slices.ContainsFunc(members, func(member member) bool { return member.NodeRank == a.rank }) {
			m.gone[a] = true
			a.signal(syscall.SIGKILL)
			m.again(a.host, a.rank)
		}
	}
}

var faults = []fault{
	{"worker killed", false, steps, func(m *match) { syscall.Kill(m.worker(), syscall.SIGKILL) }},
	{"worker stopped", false, steps, func(m *match) {
		pid := m.worker()
		syscall.Kill(pid, syscall.SIGSTOP)
		m.after(6*time.Second, func() { syscall.Kill(pid, syscall.SIGCONT) }) // it may be gone
	}},
	{"agent killed", false, steps, killAgent(false)},
	{"agent killed, two go on", true, longSteps, killAgent(false)},
	{"coordinator killed", false, steps, killAgent(true)},
	{"coordinator killed, two go on", true, longSteps, killAgent(true)},
	{"agent stopped", false, longSteps, stopAgent(false)},
	{"coordinator stopped", false, longSteps, stopAgent(true)},
	{"node cut off", false, steps, cutOff},
	{"node cut off, two go on", true, longSteps, cutOff},
	{"pair cut", false, steps, cutAPair},
	{"pair cut, two go on", true, longSteps, cutAPair},
	{"one way lost", false, steps, loseOneWay},
	{"one way lost, two go on", true, longSteps, loseOneWay},
	{"slow cable", false, steps, func(m *match) {
		h := m.anyone(3).host
		h.slowDown(200*time.Millisecond, 0.05, m.draw.Uint64())
		m.after(6*time.Second, h.speedUp)
	}},
	{"new address after power off", false, steps, func(m *match) {
		a := m.anyone(2)
		m.gone[a] = true
		a.host.powerOff()
		m.after(time.Second, func() { m.again(a.host.replace(), a.rank) })
	}},
	{"new address while cut off", false, steps, func(m *match) {
		a := m.anyone(2)
		m.gone[a] = true // it waits, or hears of the end
		a.host.cut()
		m.after(time.Second, func() { m.again(a.host.replace(), a.rank) })
		m.calm = append(m.calm, a.host.plug)
	}},
}

// undisturbed has the results of runs that no fault befalls, by their steps; what is wrong with one is text.
var undisturbed = struct {
	mu   sync.Mutex
	runs map[int64]func() (result, string)
}{runs: map[int64]func() (result, string){}}

// wantUndisturbed is the result of a run of so many steps that no fault befalls.
func wantUndisturbed(t *testing.T, steps int64) result {
	t.Helper()
	undisturbed.mu.Lock()
	run := undisturbed.runs[steps]
	if run == nil {
		run = sync.OnceValues(func() (result, string) { return trainUndisturbed(steps) })
		undisturbed.runs[steps] = run
	}
	undisturbed.mu.Unlock()
	want, wrong := run()
	if wrong != "" {
		t.Fatalf("the undisturbed run of %d steps: %s", steps, wrong)
	}
	return want
}

func trainUndisturbed(steps int64) (found result, wrong string) {
	t := &recorder{}
	func() {
		defer t.recover()
		r := newTraining(t, newCluster(t, 3), settings{"max_steps": steps})
		began := time.Now()
		r.startAll()
		r.codes(r.agents, 0)
		if t.said != "" {
			t.Fatal(r.log())
		}
		found = r.result()
		fmt.Printf("the undisturbed run of %d steps took %v\n", steps, time.Since(began).Round(time.Second/10))
	}()
	t.cleanUp()
	return found, t.said
}

// quick are the faults of the quick tier.
var quick = []string{"worker killed", "coordinator killed, two go on", "new address while cut off"}

// Every fault in every phase: the run ends with what an undisturbed one comes to. A run meets one kind of fault, in all phases.
func TestFaults(t *testing.T) {
	newCluster(t, 0) // skips where there cannot be hosts
	t.Cleanup(times.print)
	for round := range repeat {
		for i, f := range faults {
			if long || slices.Contains(quick, f.name) {
				t.Run(f.name, func(t *testing.T) {
					t.Parallel()
					draw := rand.New(rand.NewPCG(seed, round<<16|uint64(i)))
					for steps := f.steps; !befall(t, f, steps, draw); steps *= 2 {
					}
				})
			}
		}
	}
}

// befall has a run meet a fault in every phase; false: the run was over before, as on a machine faster than expected.
func befall(t *testing.T, f fault, steps int64, draw *rand.Rand) bool {
	want := wantUndisturbed(t, steps)
	c := newCluster(t, 3)
	m := &match{training: newTraining(t, c, settings{"max_steps": steps}), draw: draw, place: map[int]*host{}, now: map[int]*agent{}, gone: map[*agent]bool{}, hits: map[int]int{}}
	m.flags = []string{"--rejoin-timeout", "90s", "--last-call", "3s", "--max-restarts", "100"}
	if f.elastic {
		m.nnodes = "2:3"
	}
	if draw.IntN(2) == 0 {
		c.hosts[1].setClock(1000 * time.Hour)
	}
	for rank, h := range c.hosts {
		m.again(h, rank)
	}
	order := slices.Clone(phases)
	draw.Shuffle(len(order)-1, func(i, j int) { order[1+i], order[1+j] = order[1+j], order[1+i] })
	met := 0
	for _, p := range order {
		if !p.reach(m) {
			t.Logf("the run of %d steps is over before a fault in %s", steps, p.name)
			break
		}
		met++
		m.last = met == len(order)
		m.meet(f, p)
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
	for _, rec := range m.records() {
		t.Logf("generation %d from step %d, %d ranks: %s", rec.Generation, rec.Start, rec.World, rec.Cause)
	}
	if t.Failed() || os.Getenv("DDPRUN_NODES_LOGS") == "1" {
		t.Log(m.log())
	}
	return met == len(order) || t.Failed()
}

// meet has a fault strike, and waits until the run has got over it.
func (m *match) meet(f fault, p phase) {
	m.t.Helper()
	m.heals, m.later, m.back, m.calm = 0, nil, nil, nil
	step := m.step()
	m.struck = time.Now()
	f.strike(m)
	m.t.Logf("%s: %s in %s at step %d, node rank %d", m.struck.Format("05.000"), f.name, p.name, step, m.node)
	do := func(all []func()) {
		for _, f := range all {
			f()
		}
	}
	if len(m.later) > 0 {
		time.Sleep(time.Until(m.struck.Add(m.heals)))
		do(m.later)
	}
	if f.elastic {
		m.goesOn(2)
	} else {
		m.goesOn(3)
	}
	m.measure(f.name)
	if do(m.back); len(m.back) > 0 {
		m.goesOn(3)
	}
	if do(m.calm); len(m.calm) > 0 {
		m.goesOn(3)
	}
}

// goesOn waits until a generation of so many nodes trains.
func (m *match) goesOn(nodes int) {
	m.t.Helper()
	generation, step := -1, int64(0)
	m.eventually(fmt.Sprintf("%d nodes to go on", nodes), func() bool {
		newest, now := m.newest(), m.step()
		if newest.Generation != generation || now < step { // what metrics.jsonl tells may be older than the generation
			generation, step = newest.Generation, now
		}
		return newest.World == nodes*m.nproc && now >= step+5 || now == m.steps
	})
}

// measure notes how long it took until an agent said that something is wrong, and until the next step.
func (m *match) measure(name string) {
	detection, next := m.took(m.struck)
	m.t.Logf("%s: noticed after %.2f s, the next step after %.2f s", name, detection.Seconds(), next.Seconds()) // 0: never
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
