package agree

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
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
	losses      []Node        // members that were lost
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

// timers are the times at which something may be due, besides beats.
func (l *leader) timers(m *Machine) []time.Duration {
	at := []time.Duration{l.lastNew + m.c.LastCall, l.comers + m.c.LastCall, l.notBefore}
	for _, t := range l.fence {
		at = append(at, t)
	}
	return at
}

// answered takes the answer to a claim.
func (l *leader) answered(m *Machine, in Claimed) {
	if l.phase != leadClaim || l.pending == nil || in.Number != l.pending.Number {
		return
	}
	switch {
	case in.Err != nil:
		m.repeat("warn", "it is not known whether a generation could be claimed", "generation", in.Number, "error", in.Err.Error())
		l.doubt(m)
	case in.Won, m.is(weakClaim):
		l.won(m, l.pending)
	default:
		m.log("info", "another agent has claimed the generation", "generation", in.Number)
		m.lead = nil
	}
}

// doubt leaves it to a look at the records whether the claim was won.
func (l *leader) doubt(m *Machine) {
	l.pending, l.since, l.asks = nil, m.now, m.asks
}

// claim goes on after a claim whose answer was an error, once the records are known.
func (l *leader) claim(m *Machine) {
	if l.pending != nil || m.lookAsk <= l.asks || m.now < m.retryAt {
		return
	}
	if r := m.look.Highest; r != nil && r.Coordinator == m.c.Self.ID && (l.record == nil || r.Number > l.record.Number) {
		l.won(m, r)
		return
	}
	l.outcome, l.judged = nil, -1
	l.enter(m, leadGather)
}

// won begins the generation that this agent has claimed.
func (l *leader) won(m *Machine, r *Record) {
	fence := map[string]time.Duration{}
	before, own := m.look.Highest, false
	if before != nil && before.Number == r.Number {
		before = nil // the look shows the claim itself, the one before it is not known
		for _, id := range r.Fence {
			fence[id] = m.now + m.c.Lease + m.margin()
		}
	}
	if before != nil {
		own = l.record != nil && l.record.Number == before.Number
	}
	switch {
	case m.c.Exclusive:
		clear(fence)
	case own:
		if !l.ran {
			fence = l.fence
		}
		for id, until := range l.granted {
			fence[id] = max(fence[id], until+m.margin())
		}
	case before != nil && !covers(m.look.Outcome, before.Number):
		for _, id := range slices.Concat(ids(before.Members), before.Fence) {
			fence[id] = m.now + m.c.Lease + m.margin()
		}
	}
	delete(fence, m.c.Self.ID)
	l.pending, l.record, l.claimed, l.claimedAsks, l.fence, l.ran = nil, r, m.now, m.asks, fence, false
	l.members = map[string]bool{}
	for _, member := range r.Members {
		l.members[member.ID] = true
	}
	l.granted, l.losses, l.how, l.reason, l.unasked = map[string]time.Duration{}, nil, "", "", false
	m.look.Highest, m.look.Next, m.seenAt = r, r.Number+1, m.now
	if l.outcome != nil {
		l.outcome.Generation = r.Number
		l.enter(m, leadEnd)
		return
	}
	l.enter(m, leadConfirm)
	m.log("info", "generation claimed", "generation", r.Number, "nodes", len(r.Members), "world_size", r.World, "start_step", r.Start)
}

// covers says whether an outcome tells that no workers of generation n or an earlier one are left.
func covers(o *Outcome, n int) bool { return o != nil && o.Generation >= n }

func ids(members []Member) []string {
	var all []string
	for _, member := range members {
		all = append(all, member.ID)
	}
	return all
}

// adopt ends the run where its outcome was written at about the same time as this generation was claimed: one of the two has to give
// way, and who has written may have been heard already.
func (l *leader) adopt(m *Machine) bool {
	if m.lookAsk <= l.claimedAsks {
		return false
	}
	o := m.binding()
	if o == nil {
		return false
	}
	adopted := *o
	adopted.Generation = l.record.Number
	l.finish(m, &adopted, true)
	return true
}

// confirm waits until every member has confirmed the record.
func (l *leader) confirm(m *Machine) {
	if l.adopt(m) || l.dropped(m) {
		return
	}
	n, failed, silent := l.record.Number, [][2]string(nil), []string(nil)
	for _, member := range l.record.Members {
		p := m.peers[member.ID]
		if p.report == nil || p.report.Tried != n {
			silent = append(silent, member.ID)
			continue
		}
		for _, other := range p.report.Unreachable {
			failed = append(failed, [2]string{member.ID, other})
		}
	}
	late := m.now-l.since >= m.c.ConfirmTimeout
	switch {
	case len(silent) > 0 && !late:
		return
	case len(silent) == 0 && len(failed) == 0:
		l.enter(m, leadFence)
		return
	}
	for _, id := range silent {
		if l.slow[id]++; l.slow[id] > 1 {
			l.leftOut[id] = m.now + leftOutFor
		}
	}
	for _, id := range leaveOut(ids(l.record.Members), l.record.Coordinator, failed) {
		l.leftOut[id] = m.now + leftOutFor
		m.log("warn", "a node is not to be in the next generation: data-plane paths between nodes do not work", "node", m.name(id), "pairs", m.pairs(failed))
	}
	if len(failed) > 0 { // where nobody can be spared the same is tried again: not at once
		l.plans++
		l.notBefore = m.now + time.Duration(min(l.plans, 8))*m.c.Lease
	}
	if len(silent) > 0 {
		m.log("warn", "nodes have not confirmed the generation in time", "generation", n, "nodes", m.names(silent))
	}
	l.regather(m)
}

// leftOutFor is how long a node is left out whose paths have failed.
const leftOutFor = time.Minute

// regather gives up the generation before it has started.
func (l *leader) regather(m *Machine) {
	l.enter(m, leadGather)
	l.known, l.lastNew = map[string]bool{}, m.now
}

// dropped gives the generation up if a member is gone before it has started.
func (l *leader) dropped(m *Machine) bool {
	for _, member := range l.record.Members {
		p := m.peers[member.ID]
		if m.lost(p) || p.report != nil && p.report.Leaving {
			m.log("warn", "a node is gone before the generation has started", "generation", l.record.Number, "node", m.name(member.ID))
			l.regather(m)
			return true
		}
	}
	return false
}

// fenced waits until no workers of an earlier generation can run.
func (l *leader) fenced(m *Machine) {
	if l.adopt(m) || l.dropped(m) {
		return
	}
	if !l.safe(m) || !m.c.Exclusive && m.lease(l) <= m.c.Lease/2 {
		return
	}
	l.ran, l.fence, l.plans = true, map[string]time.Duration{}, 0
	l.enter(m, leadRun)
	l.comers = m.now
}

// safe says whether no agent is left that may run workers of an earlier generation.
func (l *leader) safe(m *Machine) bool {
	for id, until := range l.fence {
		if m.now >= until || m.is(weakFence) {
			continue
		}
		p := m.peers[id]
		if p == nil || p.report == nil {
			return false
		}
		if down := p.report.Busy < 0 && (p.report.Highest >= l.record.Number || m.is(weakPromise)); !down && !p.report.Gone {
			return false
		}
	}
	return true
}

// run watches over the members.
func (l *leader) run(m *Machine) {
	n, finished := l.record.Number, 0
	for _, member := range l.record.Members {
		p := m.peers[member.ID]
		r := p.report
		switch {
		case r != nil && r.Ran == n && r.Failure != nil:
			l.stop(m, StopNow, fmt.Sprintf("rank %d on %s has failed: %s", r.Failure.Rank, member.Host, r.Failure.Message))
		case r != nil && r.Ran == n && r.Busy < 0 && r.End == Finished:
			finished++
		case r != nil && r.Ran == n && r.Busy < 0 && r.End == Stopped:
			l.unasked = true
			l.stop(m, StopCheckpoint, "the workers on "+m.name(member.ID)+" have stopped by themselves")
		case r != nil && r.Ran == n && r.Busy < 0:
			l.stop(m, StopNow, "the workers on "+m.name(member.ID)+" have ended")
		case m.lost(p):
			l.losses = append(l.losses, member.Node)
			l.stop(m, StopNow, m.name(member.ID)+" is lost")
		case r != nil && r.Ran < n && m.now-l.since > m.c.Lease:
			l.stop(m, StopNow, m.name(member.ID)+" has not started its workers")
		case r != nil && r.Ran == n && len(r.LostPaths) > 0:
			l.stop(m, StopNow, "the path between "+m.name(member.ID)+" and "+m.names(r.LostPaths)+" is lost")
		case r != nil && r.Leaving:
			l.stop(m, StopCheckpoint, m.name(member.ID)+" leaves: "+r.Reason)
		}
	}
	switch {
	case l.phase != leadRun:
	case finished == len(l.record.Members):
		l.enter(m, leadDrain)
	case !m.c.Exclusive && m.lease(l) == 0:
		l.stop(m, StopNow, "the coordinator cannot read output_dir any more")
	case finished == 0:
		l.invite(m)
	}
}

// stop ends the generation.
func (l *leader) stop(m *Machine, how StopHow, reason string) {
	if l.phase == leadDrain && (l.how == StopNow || how == StopCheckpoint) {
		return
	}
	level := "warn"
	if how == StopCheckpoint {
		level = "info"
	}
	m.log(level, "ending the generation", "generation", l.record.Number, "reason", reason, "how", string(how))
	if l.phase != leadDrain {
		l.enter(m, leadDrain)
	}
	l.how = how
	if l.reason == "" {
		l.reason = reason
	}
}

// invite ends the generation with a checkpoint when there are newcomers for whom there is room.
func (l *leader) invite(m *Machine) {
	room := m.c.MaxNodes - len(l.record.Members)
	if room <= 0 {
		return
	}
	var comers []string
	for _, p := range l.eligible(m) {
		if l.members[p.node.ID] {
			continue
		}
		if r := p.report; r.Tried != l.record.Number || len(r.Unreachable) > 0 {
			continue
		}
		comers = append(comers, p.node.ID)
		if !l.known[p.node.ID] {
			l.known[p.node.ID], l.comers = true, m.now
		}
	}
	if len(comers) == 0 || len(comers) < room && m.now-l.comers < m.c.LastCall {
		return
	}
	l.stop(m, StopCheckpoint, m.names(comers)+" joins")
}

// drain waits until the members' workers are down.
func (l *leader) drain(m *Machine) {
	n := l.record.Number
	for _, member := range l.record.Members {
		p := m.peers[member.ID]
		r := p.report
		switch {
		case r != nil && r.Gone:
		case m.lost(p):
			if r == nil || r.Ran != n || r.Busy >= 0 {
				if !slices.ContainsFunc(l.losses, func(node Node) bool { return node.ID == member.ID }) {
					l.losses = append(l.losses, member.Node)
				}
				l.stop(m, StopNow, m.name(member.ID)+" is lost")
			}
		case r == nil || r.Busy >= 0:
			if r != nil && r.Failure != nil && r.Ran == n {
				l.stop(m, StopNow, fmt.Sprintf("rank %d on %s has failed: %s", r.Failure.Rank, member.Host, r.Failure.Message))
			}
			return
		}
	}
	l.regather(m)
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

// name is an agent for people.
func (m *Machine) name(id string) string {
	if p := m.peers[id]; p != nil && p.node.Host != "" {
		return fmt.Sprintf("node %s on %s", id, p.node.Host)
	}
	return "node " + id
}

func (m *Machine) names(ids []string) string {
	var all []string
	for _, id := range ids {
		all = append(all, m.name(id))
	}
	return strings.Join(all, ", ")
}

func (m *Machine) pairs(pairs [][2]string) string {
	var all []string
	for _, pair := range pairs {
		all = append(all, m.name(pair[0])+" to "+m.name(pair[1]))
	}
	return strings.Join(all, "; ")
}
