package agree

import (
	"cmp"
	"slices"
	"time"
)

// leader is what an agent knows that others follow: it gathers them, claims a generation, coordinates it and says how it ended.
type leader struct {
	phase leadPhase
	born  time.Duration // when this agent began to lead
	since time.Duration // of the phase
	asks  int           // looks at the records that were asked for before

	// Of gathering.
	known     map[string]bool          // who could be a member
	lastNew   time.Duration            // when the last of them came
	leftOut   map[string]time.Duration // for failed paths or no answer, until then
	slow      map[string]int           // plans that an agent has not confirmed
	verdict   *verdict                 // on the highest generation
	judged    int                      // its number
	judgedAt  time.Duration
	failed    *FailedGeneration
	dismiss   bool   // who wants to leave may go
	waiting   string // what for
	missing   string // who, as of missingAt: it takes long to say
	missingAt time.Duration
	why       map[string]string // agents are not to be members
	plans     int               // that were given up since the last generation that ran
	notBefore time.Duration     // the next claim
	worse     time.Duration     // since when another one is connected with more agents, 0: none is

	// Of the claimed generation.
	pending     *Record                  // that is being claimed
	record      *Record                  // claimed; nil: none yet
	members     map[string]bool          // its members
	claimed     time.Duration            // when that was known
	claimedAsks int                      // looks at the records that were asked for before
	granted     map[string]time.Duration // until when agents may run its workers at the latest
	fence       map[string]time.Duration // who may still run workers of earlier ones, until when at the latest
	ran         bool
	how         StopHow // how it is ended
	reason      string
	unasked     bool          // workers have stopped with a checkpoint though nobody had asked
	comers      time.Duration // when the last newcomer came

	// Of the end.
	outcome     *Outcome
	filed       bool // it has to be in output_dir before anybody is told
	writing     bool // an answer is due
	writtenAsks int  // -1: not written
	telling     bool
}

type leadPhase string

const (
	leadGather  leadPhase = "gathering"
	leadClaim   leadPhase = "claiming"
	leadConfirm leadPhase = "confirming"
	leadFence   leadPhase = "fencing"
	leadRun     leadPhase = "running"
	leadDrain   leadPhase = "stopping"
	leadEnd     leadPhase = "ending"
)

func newLeader(m *Machine) *leader {
	return &leader{
		phase: leadGather, born: m.now, since: m.now, asks: m.asks, lastNew: m.now, judged: -1, comers: m.now, writtenAsks: -1,
		known: map[string]bool{}, leftOut: map[string]time.Duration{}, slow: map[string]int{},
		granted: map[string]time.Duration{}, fence: map[string]time.Duration{},
	}
}

func (l *leader) enter(m *Machine, phase leadPhase) {
	l.phase, l.since, l.asks = phase, m.now, m.asks
}

// step does what is due, as far as it goes at once.
func (l *leader) step(m *Machine) {
	type at struct {
		phase            leadPhase
		tried, number    int
		dismiss, telling bool
		since            time.Duration
	}
	where := func() at { return at{l.phase, m.tried, m.workers.number, l.dismiss, l.telling, l.since} }
	for range 20 {
		before := where()
		switch l.phase {
		case leadGather:
			l.gather(m)
		case leadClaim:
			l.claim(m)
		case leadConfirm:
			l.confirm(m)
		case leadFence:
			l.fenced(m)
		case leadRun:
			l.run(m)
		case leadDrain:
			l.drain(m)
		case leadEnd:
			l.end(m)
		}
		if m.lead != l {
			return
		}
		w := m.word(m.self)
		w.Echo, m.self.asked = m.now, false
		m.told(m.self, &w)
		m.member()
		if m.exited || m.lead != l {
			return
		}
		m.selfReport()
		if where() == before {
			return
		}
	}
}

// word completes what p is to be told.
func (l *leader) word(m *Machine, p *peer, w *Word) {
	w.Dismiss = l.dismiss
	if l.failed != nil && (p.report == nil || p.report.Told < l.failed.Number) {
		w.Failed = l.failed
	}
	if !l.members[p.node.ID] || l.phase == leadGather {
		w.Reason = cmp.Or(l.why[p.node.ID], l.waiting)
	}
	if l.telling {
		w.End = l.outcome
	}
	if l.record == nil {
		return
	}
	if l.phase != leadGather && l.phase != leadClaim {
		w.Number = l.record.Number
	}
	switch l.phase {
	case leadConfirm, leadFence:
		w.Phase = phaseConfirm
	case leadRun:
		w.Phase, w.Left = phaseRun, m.lease(l)
		w.Probe = len(l.record.Members) < m.c.MaxNodes
	case leadDrain:
		w.Phase, w.How, w.Reason = phaseStop, l.how, l.reason
		if l.how == StopCheckpoint {
			w.Left = m.lease(l)
		}
	}
	if !l.members[p.node.ID] {
		w.Left = 0
	}
}

// concerns says whether p is to be told of changes at once.
func (l *leader) concerns(p *peer) bool {
	return l.telling || l.members[p.node.ID]
}

// polls says whether p, which does not report, should be asked to.
func (l *leader) polls(m *Machine, p *peer) bool {
	return m.now-p.toldAt >= 2*m.c.Beat && (p.report == nil || m.now-p.heard > 2*m.c.Beat || p.report.Head != m.c.Self.ID)
}

// wantsLook says whether the leader needs to see the records.
func (l *leader) wantsLook(m *Machine) bool {
	if l.phase == leadClaim {
		return l.pending == nil
	}
	if m.c.Exclusive {
		return l.phase == leadGather && m.lookAsk <= l.asks
	}
	switch l.phase {
	case leadGather:
		return m.lookAsk <= l.asks || m.now-m.look.Asked >= m.c.Lease
	case leadEnd:
		return l.filed && !l.telling && (m.lookAsk <= max(l.asks, l.writtenAsks) || m.now-m.look.Asked >= m.c.Beat)
	}
	return m.lookAsk <= l.claimedAsks || m.now-m.look.Asked >= m.c.Beat
}

// wantsClaims says whether nothing but a higher claim or an outcome matters to the leader: what it plans with, it reads when it gathers.
func (l *leader) wantsClaims() bool {
	switch l.phase {
	case leadConfirm, leadFence, leadRun, leadDrain:
		return true
	}
	return false
}

// timers are the times at which something may be due, besides beats.
func (l *leader) timers(m *Machine) []time.Duration {
	at := []time.Duration{l.lastNew + m.c.LastCall, l.comers + m.c.LastCall, l.notBefore}
	for _, t := range l.fence {
		at = append(at, t)
	}
	return at
}

// mayLeave says whether an agent that leads and wants to leave may.
func (l *leader) mayLeave(m *Machine) bool {
	switch l.phase {
	case leadRun, leadDrain, leadEnd:
		return false
	case leadGather:
		if m.workers.ran >= 0 && m.workers.ran == m.highest() && l.judged != m.highest() && m.now-l.since < 2*m.c.Lease {
			return false
		}
		return !l.dismiss || !l.leavers(m) || m.now-l.judgedAt > m.c.Lease
	}
	return true
}

// leavers says whether others that want to leave are still there.
func (l *leader) leavers(m *Machine) bool {
	return slices.ContainsFunc(m.order, func(p *peer) bool { return p != m.self && m.fresh(p) && p.report.Leaving })
}
