package agree

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Machine is the state of one agent. It is not safe for concurrent use, and what it returns and is given it may keep: records,
// failures and outcomes are never changed.
type Machine struct {
	c          Config
	self       *peer // as the others are: its own reports are given to its own leader
	peers      map[string]*peer
	order      []*peer // in the order in which they would lead
	reach      int     // how many are connected, this one included
	answers    []*peer // who have reported to this agent
	asked      []*peer // who would like a report
	rumour     int     // the highest record that anybody has read
	rumourAsks int     // looks that were asked for before it was heard of
	now        time.Duration
	out        []Output
	seq        uint64

	nextBeat   time.Duration
	graceUntil time.Duration // nobody is lost by silence before, since this process itself was silent
	started    time.Duration

	// What the file system says.
	look       Records // the last that was no error
	looked     bool    // there has been one
	reading    bool    // an answer is due
	asks       int     // how often it was asked for
	claimsOnly bool    // the last question was for claims alone
	lookAsk    int     // which of these the last look answers
	readErr    error
	askedAt    time.Duration // when it was asked last
	retryAt    time.Duration // after an error
	base       int           // number of the highest record when this agent began, -1: none
	baseEnd    int           // generation of the outcome then, -1: none
	seenAt     time.Duration // when the highest record was first seen
	hold       time.Duration // how long to let alone a generation of agents that cannot be seen
	heldFrom   time.Duration
	newest     int64
	ranMost    int // the last generation that is known to have run, -1: none

	// This agent as a member.
	workers workers
	tried   int // the generation whose paths were tried, -1: none
	trying  int // ... are being tried
	missing []string
	triedAt time.Duration
	leaving *Leave
	killed  *Kill
	joined  bool          // it has been a member
	idle    time.Duration // since when no generation runs, as far as it knows
	downAt  time.Duration // when its workers ended last
	grant   grant         // the last lease
	failed  int           // the last generation whose failure was told, -1: none
	head    *peer         // whom it follows; nil: nobody is able to lead
	headAt  time.Duration // since when
	unable  time.Duration // it does not lead before
	end     *Outcome      // the run has ended, or this agent leaves: exit when the workers are down
	exited  bool
	last    Report // as it was sent last

	lead *leader // nil: it follows another agent
	logs map[string]time.Duration

	weak weakness
}

// workers are this node's.
type workers struct {
	number     int // their generation, -1: there are none
	record     *Record
	until      time.Duration // their lease
	stop       StopHow
	ran        int // the last generation, -1
	end        End
	checkpoint int64
	failure    *Failure
	lostPaths  []string
}

// grant is a coordinator's word that workers of a generation may run until then.
type grant struct {
	number int
	until  time.Duration
}

// peer is another agent, or this one.
type peer struct {
	node      Node
	connected bool
	since     time.Duration // connected, or not
	reportSeq uint64
	wordSeq   uint64
	report    *Report
	sent      time.Duration // of the report, on its clock
	heard     time.Duration // when the report came
	failed    time.Duration // when its failure was first heard
	failedIn  int
	word      *Word
	wordAt    time.Duration
	unable    time.Duration // it does not lead before
	told      Word          // as it was sent last
	toldAt    time.Duration
	answer    bool // it has reported since
	asked     bool // it would like a report
}

// New returns the machine of an agent that begins at now.
func New(c Config, now time.Duration) *Machine {
	c.Beat = cmp.Or(c.Beat, DefaultBeat)
	c.Lease = cmp.Or(c.Lease, DefaultLease)
	c.ConfirmTimeout = cmp.Or(c.ConfirmTimeout, DefaultConfirmTimeout)
	m := &Machine{
		c: c, now: now, started: now, nextBeat: now, base: -1, baseEnd: -1, failed: -1, tried: -1, trying: -1, idle: now, reach: 1, rumour: -1, ranMost: -1,
		workers: workers{number: -1, ran: -1}, grant: grant{number: -1},
		peers: map[string]*peer{}, logs: map[string]time.Duration{},
	}
	m.self = &peer{node: c.Self, connected: true, since: now, failedIn: -1}
	m.peers[c.Self.ID], m.order = m.self, []*peer{m.self}
	return m
}

// margin is what a lease's end is waited for in addition: for clocks that go differently, and for a kill to take effect.
func (m *Machine) margin() time.Duration { return m.c.Lease / 8 }

// Handle takes one input in and returns what to do, in order. now never decreases.
func (m *Machine) Handle(now time.Duration, in Input) []Output {
	if m.exited {
		return nil
	}
	now = max(now, m.now)
	if now-m.now > 3*m.c.Beat {
		m.graceUntil = now + 2*m.c.Beat
	}
	m.now, m.out = now, nil
	m.expireLease()
	m.take(in)
	m.step()
	return m.out
}

// Next is when the next Tick is due.
func (m *Machine) Next() time.Duration {
	next := m.nextBeat
	at := func(t time.Duration) {
		if t > m.now {
			next = min(next, t)
		}
	}
	if m.workers.number >= 0 && !m.c.Exclusive && m.workers.stop != StopNow {
		at(m.workers.until)
	}
	if m.lead != nil {
		for _, t := range m.lead.timers(m) {
			at(t)
		}
	}
	return next
}

// take notes what has happened.
func (m *Machine) take(in Input) {
	switch in := in.(type) {
	case Tick:
	case Connected:
		m.connected(in.Node)
	case Disconnected:
		if p := m.peers[in.ID]; p != nil && p != m.self && p.connected {
			p.connected, p.since = false, m.now
			m.reach--
		}
	case Heard:
		m.hear(in.From, in.Message)
	case Records:
		m.records(in)
	case Claimed:
		if m.lead != nil {
			m.lead.answered(m, in)
		}
	case Paths:
		if in.Number == m.trying {
			m.tried, m.trying, m.missing, m.triedAt = in.Number, -1, in.Unreachable, m.now
		}
	case PathLost:
		if in.Number == m.workers.number && !slices.Contains(m.workers.lostPaths, in.ID) {
			m.workers.lostPaths = append(m.workers.lostPaths, in.ID)
		}
	case WorkersProgress:
		if in.Number == m.workers.number {
			m.workers.checkpoint = max(m.workers.checkpoint, in.Checkpoint)
		}
	case WorkersFailed:
		m.workersFailed(in)
	case WorkersDown:
		m.workersDown(in)
	case Leave:
		if m.leaving == nil {
			m.leaving = &in
		}
	case Kill:
		if m.killed == nil {
			m.killed = &in
		}
	case OutcomeWritten:
		if m.lead != nil {
			m.lead.written(m, in)
		}
	default:
		panic(fmt.Sprintf("agree: input %T", in))
	}
}

// step draws the consequences.
func (m *Machine) step() {
	beat := m.now >= m.nextBeat
	if beat {
		m.nextBeat = m.now + m.c.Beat
	}
	m.member()
	if m.exited {
		return
	}
	m.follow()
	m.selfReport()
	if m.lead != nil {
		m.lead.step(m)
	}
	if m.exited {
		return
	}
	m.member() // what its own leader has decided
	if m.exited {
		return
	}
	m.speak(beat)
	m.read()
}

func (m *Machine) connected(n Node) {
	if n.ID == m.c.Self.ID {
		return
	}
	p := m.peers[n.ID]
	if p == nil {
		p = &peer{failedIn: -1, since: m.now, node: n}
		m.peers[n.ID] = p
		i, _ := slices.BinarySearchFunc(m.order, p, byOrder)
		m.order = slices.Insert(m.order, i, p)
	}
	if !p.connected {
		p.connected, p.since = true, m.now
		m.reach++
	}
	if p.node != n {
		p.node = n
		slices.SortFunc(m.order, byOrder)
	}
}

func (m *Machine) hear(from string, message Message) {
	p := m.peers[from]
	if p == nil || p == m.self {
		return
	}
	switch {
	case message.Kind == kindReport && message.Report != nil && message.Seq > p.reportSeq:
		p.reportSeq, p.sent = message.Seq, message.Sent
		m.reported(p, message.Report)
		if message.Report.Head == m.c.Self.ID && !p.answer {
			p.answer, m.answers = true, append(m.answers, p)
		}
	case message.Kind == kindWord && message.Word != nil && message.Seq > p.wordSeq:
		p.wordSeq = message.Seq
		m.told(p, message.Word)
	}
}

// reported notes the report of an agent.
func (m *Machine) reported(p *peer, r *Report) {
	p.report, p.heard = r, m.now
	if r.Highest > m.rumour {
		m.rumour, m.rumourAsks = r.Highest, m.asks
	}
	m.ranMost = max(m.ranMost, r.Ran)
	if r.Failure != nil && p.failedIn != r.Ran {
		p.failed, p.failedIn = m.now, r.Ran
	}
}

// output adds something to do.
func (m *Machine) output(o Output) { m.out = append(m.out, o) }

func (m *Machine) log(level, text string, attrs ...any) {
	m.output(Log{Level: level, Text: text, Attrs: attrs})
}

// repeat logs what may hold for long, at most every half minute.
func (m *Machine) repeat(level, text string, attrs ...any) {
	if at, ok := m.logs[text]; ok && m.now-at < repeatEvery {
		return
	}
	if len(m.logs) > 100 {
		clear(m.logs)
	}
	m.logs[text] = m.now
	m.log(level, text, attrs...)
}

const repeatEvery = 30 * time.Second

// highest is the number of the highest record that was read, -1: none.
func (m *Machine) highest() int {
	if m.look.Highest == nil {
		return -1
	}
	return m.look.Highest.Number
}

func byOrder(a, b *peer) int { return before(a.node, b.node) }

// before orders nodes by node rank, then by ID; those without a node rank come last.
func before(a, b Node) int {
	if (a.Rank < 0) != (b.Rank < 0) {
		return cmp.Compare(b.Rank, a.Rank)
	}
	return cmp.Or(cmp.Compare(a.Rank, b.Rank), cmp.Compare(a.ID, b.ID))
}

// weakness leaves out a rule, for the tests that show what each rule is for.
type weakness int

const (
	weakFence   weakness = 1 << iota // a generation starts without waiting for the workers of earlier ones
	weakPromise                      // who is down counts as fenced although it may still start workers of an earlier one
	weakLook                         // a coordinator grants leases without looking for a higher claim
	weakSent                         // a lease is measured from when the answer comes
	weakClaim                        // a lost claim is taken for a won one
	weakRank                         // two agents with one node rank may be members
	weakBudget                       // what the record counts is not carried on
	weakOutcome                      // an agent that claims does not look whether the run has ended at the same time
)

func (m *Machine) is(w weakness) bool { return m.weak&w != 0 }
