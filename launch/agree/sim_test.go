package agree

import (
	"container/heap"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// sim is a world in virtual time: hosts with agents and workers, a network and a file system, all with faults. Everything
// that happens follows from its seed.
type sim struct {
	seed   uint64
	r      *rand.Rand
	now    time.Duration
	queue  events
	events uint64

	c         Config // of all agents
	hosts     []*host
	byID      map[string]*process
	net       network
	fs        files
	worlds    map[int]*world // by generation
	total     int64          // steps of the run
	calm      time.Duration  // when the faults end
	wire      bool           // messages pass through JSON
	weak      weakness
	weights   []float64 // of the kinds of faults
	onClaim   func(Record)
	onConnect func()
	naive     bool // readers count every checkpoint
	verbose   bool

	firsts   map[int]map[string]string // of generations: the first failure as agents were told
	history  []string                  // what happened last
	broken   string                    // the invariant that was violated; empty: none
	endedAt  time.Duration
	endedIn  int      // its generation
	final    *Outcome // as that agent gave it
	fresh    bool     // an agent began after the outcome of the run was written
	ended    bool     // an agent has exited with what the run came to
	codes    map[int][]string
	messages int
	claims   int
	counted  int64 // the newest checkpoint that counted
	stats    struct{ crashes, stops, cuts, failures, leaves, slow int }
}

// host is a place where an agent runs, and is started again.
type host struct {
	i     int
	rank  int // declared, -1: not
	p     *process
	lives int
	away  bool // it is not started again
}

// process is the life of an agent.
type process struct {
	sim       *sim
	host      *host
	node      Node
	m         *Machine
	alive     bool
	stopped   bool
	continued time.Duration
	failed    int // the last generation whose failure it was told of
	inbox     []Input
	offset    time.Duration
	drift     float64
	told      map[string]bool // whom the mesh has reported as connected
	tick      uint64          // of the pending tick
	jobs      []*job
	leaves    bool
	killed    bool
	born      time.Duration
}

type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (s *sim) after(d time.Duration, do func()) {
	s.events++
	heap.Push(&s.queue, event{s.now + d, s.events, do})
}

// between is a random duration.
func (s *sim) between(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(s.r.Int64N(int64(high-low)))
}

func (s *sim) chance(p float64) bool { return s.r.Float64() < p }

func (s *sim) note(format string, a ...any) {
	line := fmt.Sprintf("%9.3f ", s.now.Seconds()) + fmt.Sprintf(format, a...)
	if s.verbose {
		fmt.Println(line)
	}
	if s.history = append(s.history, line); len(s.history) > 400 {
		s.history = s.history[200:]
	}
}

// violate notes that an invariant does not hold.
func (s *sim) violate(format string, a ...any) {
	if s.broken == "" {
		s.broken = fmt.Sprintf(format, a...)
		s.note("VIOLATION: %s", s.broken)
	}
}

// run goes on until everybody has exited for good, an invariant is violated, or time is up.
func (s *sim) run(limit time.Duration) {
	for len(s.queue) > 0 && s.broken == "" && s.queue[0].at <= limit {
		e := heap.Pop(&s.queue).(event)
		s.now = e.at
		e.do()
		if s.over() {
			return
		}
	}
}

// over says whether nobody is left, and nobody will come.
func (s *sim) over() bool {
	for _, h := range s.hosts {
		if h.p != nil || !h.away && !s.ended {
			return false
		}
	}
	return true
}

// boot starts an agent on a host.
func (s *sim) boot(h *host) {
	if h.p != nil || h.away || s.ended {
		return
	}
	h.lives++
	p := &process{
		sim: s, host: h, alive: true, told: map[string]bool{}, born: s.now, failed: -1,
		offset: s.between(0, time.Hour), drift: (s.r.Float64() - 0.5) * 2e-3,
	}
	name := "x"
	if h.rank >= 0 {
		name = fmt.Sprint(h.rank)
	}
	p.node = Node{ID: fmt.Sprintf("%s-%04x%02x%02d", name, s.r.IntN(1<<16), h.i%256, h.lives), Rank: h.rank, NProc: 1 + h.i%3, Host: fmt.Sprintf("host%d", h.i), Addr: "10.0.0.1"}
	c := s.c
	c.Self = p.node
	p.m = New(c, p.clock())
	p.m.weak = s.weak
	h.p = p
	s.byID[p.node.ID] = p
	s.note("boot %s on host%d", p.node.ID, h.i)
	if o := s.fs.outcome; o != nil && final(o.Code) && o.Generation == s.fs.highest() {
		s.fresh = true
	}
	p.give(Tick{})
	for _, other := range s.hosts {
		if other.p != nil && other != h {
			s.refresh(p, other.p)
		}
	}
}

// clock is the time by this process's clock.
func (p *process) clock() time.Duration {
	return p.offset + p.sim.now + time.Duration(float64(p.sim.now)*p.drift)
}

// real is when this process's clock shows t.
func (p *process) real(t time.Duration) time.Duration {
	return time.Duration(float64(t-p.offset)/(1+p.drift)) + 1
}

// give hands an input to the machine, or keeps it while the process is stopped.
func (p *process) give(in Input) {
	if !p.alive {
		return
	}
	if p.stopped {
		p.inbox = append(p.inbox, in)
		return
	}
	out := p.m.Handle(p.clock(), in)
	for i, o := range out {
		if e, ok := o.(Exit); ok {
			if i != len(out)-1 {
				p.sim.violate("%s: Exit is not the last output", p.node.ID)
			}
			p.exit(e.Outcome)
			return
		}
		p.do(o)
	}
	p.tick++
	tick := p.tick
	p.sim.after(max(p.real(p.m.Next())-p.sim.now, time.Millisecond), func() {
		if p.tick == tick {
			p.give(Tick{})
		}
	})
}

func (p *process) do(o Output) {
	s := p.sim
	switch o := o.(type) {
	case Send:
		s.send(p, o)
	case ReadRecords:
		s.fs.read(p, o.ClaimsOnly)
	case Claim:
		s.fs.claim(p, o.Record)
	case TestPaths:
		s.after(s.between(time.Millisecond, 200*time.Millisecond), func() {
			var bad []string
			for _, n := range o.Nodes {
				if q := s.byID[n.ID]; !q.alive || !s.net.path(p.host.i, q.host.i) {
					bad = append(bad, n.ID)
				}
			}
			p.give(Paths{Number: o.Number, Unreachable: bad})
		})
	case StartWorkers:
		s.startJob(p, o.Record)
	case StopWorkers:
		p.stopJob(o)
	case Lease:
		p.extend(o)
	case WriteOutcome:
		s.fs.write(p, o.Outcome)
	case FirstFailure:
		if o.Number <= p.failed {
			s.violate("%s is told twice of the failure of generation %d", p.node.ID, o.Number)
		}
		p.failed = o.Number
		if s.firsts[o.Number] == nil {
			s.firsts[o.Number] = map[string]string{}
		}
		s.firsts[o.Number][p.node.ID] = o.Failure.Message
	case Log:
		if o.Level != "debug" || s.verbose {
			s.note("%s [%s] %s %v", p.node.ID, o.Level, o.Text, o.Attrs)
		}
	default:
		panic(fmt.Sprintf("output %T", o))
	}
}

// exit ends a process that has come to its end.
func (p *process) exit(o Outcome) {
	s := p.sim
	s.note("%s exits with %d (%s)", p.node.ID, o.Code, o.Reason)
	for _, j := range p.jobs {
		if !j.dead {
			s.violate("%s exits with workers of generation %d", p.node.ID, j.record.Number)
		}
	}
	p.gone()
	if p.killed || o.Code == codeComeAgain || p.leaves && o.Code == 143 {
		s.again(p.host)
		return
	}
	if s.ended && (p.m.baseEnd >= s.endedIn || o.Generation > s.endedIn && s.fresh) {
		return // it belongs to a start anew, by an agent that began when the run had ended
	}
	if !s.ended {
		s.endedIn, s.final = o.Generation, &o
	}
	s.codes[o.Code] = append(s.codes[o.Code], p.node.ID)
	s.ended, s.endedAt = true, s.now
}

// again starts a host's agent some time later.
func (s *sim) again(h *host) {
	if s.now > s.calm && s.chance(0.5) {
		s.after(time.Second, func() { s.boot(h) })
		return
	}
	s.after(s.between(100*time.Millisecond, 15*time.Second), func() { s.boot(h) })
}

// gone takes a process out of the world.
func (p *process) gone() {
	p.alive = false
	p.host.p = nil
	for _, other := range p.sim.hosts {
		if other.p != nil {
			p.sim.refresh(other.p, p)
		}
	}
}

// crash ends a process and its workers by kill -9.
func (s *sim) crash(p *process) {
	s.note("crash %s", p.node.ID)
	s.stats.crashes++
	for _, j := range p.jobs {
		j.die()
	}
	p.gone()
}

// stop stops a process for a while; its workers go on.
func (s *sim) stop(p *process, d time.Duration) {
	if p.stopped {
		return
	}
	s.note("stop %s for %v", p.node.ID, d)
	s.stats.stops++
	p.stopped = true
	s.after(d, func() {
		if !p.alive {
			return
		}
		s.note("continue %s", p.node.ID)
		p.stopped, p.continued = false, s.now
		inbox := p.inbox
		p.inbox = nil
		if s.chance(0.5) {
			p.give(Tick{})
		}
		for _, in := range inbox {
			p.give(in)
		}
		p.give(Tick{})
	})
}

func (s *sim) encode(m Message) Message {
	if !s.wire {
		return m
	}
	b, err := json.Marshal(m)
	if err != nil {
		s.violate("a message cannot be encoded: %v", err)
	}
	var again Message
	if err := json.Unmarshal(b, &again); err != nil {
		s.violate("a message cannot be decoded: %v", err)
	}
	return again
}

func (s *sim) report() string {
	return fmt.Sprintf("seed %d: %s\n%s", s.seed, s.broken, strings.Join(s.history, "\n"))
}
