package agree

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// gather claims the next generation as soon as those are there who should be in it.
func (l *leader) gather(m *Machine) {
	if !m.looked || m.lookAsk <= l.asks || m.workers.number >= 0 {
		return
	}
	if m.lead == l && m.ended() != nil {
		l.tell(m, m.look.Outcome)
		return
	}
	l.judge(m)
	if l.phase != leadGather {
		return
	}
	if m.leaving != nil {
		return
	}
	if o := m.binding(); o != nil && m.now-l.since >= 2*m.c.Lease && m.now >= l.heldUntil(m) {
		adopted := *o // who has claimed after it, and should have taken it over, is gone
		l.finish(m, &adopted, true)
		return
	}
	members := l.eligible(m)
	if !slices.Contains(members, m.self) {
		l.stepAside(m)
		return
	}
	if !l.startable(m, members) {
		l.giveUp(m, members)
		return
	}
	if r := m.look.Highest; r != nil {
		if l.conclude(m, r); l.phase != leadGather { // again: more may have been heard
			return
		}
	}
	r := l.plan(m, members)
	l.pending = r
	l.enter(m, leadClaim)
	m.output(Claim{*r})
}

// judge says what follows from the end of the highest generation, once all that are left of it are down.
func (l *leader) judge(m *Machine) {
	r := m.look.Highest
	if r != nil && l.judged != r.Number && l.settled(m, r) {
		l.conclude(m, r)
	}
}

// conclude judges the end of generation r by what is known.
func (l *leader) conclude(m *Machine, r *Record) {
	l.judged, l.judgedAt = r.Number, m.now
	l.verdict = l.judgement(m, r)
	v := l.verdict
	switch {
	case v.failure != nil:
		l.failed = &FailedGeneration{r.Number, *v.failure}
	case v.failed:
		l.failed = &FailedGeneration{r.Number, Failure{Rank: -1, Echo: 1, ExitCode: -1, Message: v.cause}}
	}
	if v.outcome != nil {
		l.finish(m, v.outcome, true)
		return
	}
	var leaving, staying []*peer
	for _, p := range m.order {
		switch {
		case !m.fresh(p) || p.report.Head != m.c.Self.ID:
		case p.report.Leaving:
			leaving = append(leaving, p)
		default:
			staying = append(staying, p)
		}
	}
	if len(leaving) == 0 {
		return
	}
	if v.ran && len(staying) < m.c.MinNodes {
		o := m.outcome(codeComeAgain, fmt.Sprintf("%s leaves: %s", m.name(leaving[0].node.ID), leaving[0].report.Reason))
		o.Failure = v.failure
		l.finish(m, o, true)
		return
	}
	l.dismiss = true
}

// settled says whether no more can be expected from the members of a generation about how it ended.
func (l *leader) settled(m *Machine, r *Record) bool {
	for _, member := range r.Members {
		p := m.peers[member.ID]
		if p == nil || p.report != nil && p.report.Gone || m.lost(p) {
			continue
		}
		if p.report == nil || p.report.Busy >= 0 || !l.current(m, p) {
			return false
		}
	}
	return true
}

// current says whether an agent has reported since this one leads. What it said to an earlier leadership may be long out of date.
func (l *leader) current(m *Machine, p *peer) bool { return p == m.self || p.heard >= l.born }

// eligible are the agents that could be members now.
func (l *leader) eligible(m *Machine) []*peer {
	var all []*peer
	for _, p := range m.order {
		if !m.fresh(p) || !l.current(m, p) || p.report.Head != m.c.Self.ID || p.report.Leaving || p.report.Gone {
			continue
		}
		if p.report.Busy >= 0 && (l.record == nil || p.report.Busy != l.record.Number) {
			continue
		}
		all = append(all, p)
	}
	l.why = map[string]string{}
	all = l.oneOfEachRank(m, all)
	all = l.without(m, all, "its data-plane paths to other nodes have failed, or it has not confirmed a generation", func(p *peer) bool {
		return m.now < l.leftOut[p.node.ID]
	})
	excluded := m.excluded(l.lossesNow(m))
	return l.without(m, all, fmt.Sprintf("it has failed %d times within %v, and is left out for a while", maxLosses, lossWindow), func(p *peer) bool {
		return excluded[keyOf(p.node)] > m.now
	})
}

// without leaves out agents, as long as enough remain.
func (l *leader) without(m *Machine, all []*peer, why string, out func(*peer) bool) []*peer {
	if !slices.ContainsFunc(all, out) {
		return all
	}
	rest := slices.DeleteFunc(slices.Clone(all), out)
	if len(rest) < m.c.MinNodes {
		return all
	}
	for _, p := range all {
		if out(p) {
			l.why[p.node.ID] = why
		}
	}
	return rest
}

// oneOfEachRank leaves one agent of those that declare the same node rank: a member of the last generation, else who came first.
func (l *leader) oneOfEachRank(m *Machine, all []*peer) []*peer {
	taken := map[int]*peer{}
	better := func(a, b *peer) bool {
		if r := m.look.Highest; r != nil && (r.member(a.node.ID) >= 0) != (r.member(b.node.ID) >= 0) {
			return r.member(a.node.ID) >= 0
		}
		return a.since < b.since
	}
	for _, p := range all {
		if rank := p.node.Rank; rank >= 0 && (taken[rank] == nil || better(p, taken[rank])) {
			taken[rank] = p
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(p *peer) bool {
		rank := p.node.Rank
		if rank < 0 || taken[rank] == p || m.is(weakRank) {
			return false
		}
		l.why[p.node.ID] = fmt.Sprintf("node rank %d is taken by %s", rank, m.name(taken[rank].node.ID))
		m.repeat("warn", m.name(p.node.ID)+" waits: "+l.why[p.node.ID])
		return true
	})
}

// startable says whether a generation of these members should be claimed now.
func (l *leader) startable(m *Machine, members []*peer) bool {
	for _, p := range members {
		if !l.known[p.node.ID] {
			l.known[p.node.ID], l.lastNew = true, m.now
		}
	}
	l.waiting = ""
	if len(members) < m.c.MinNodes {
		if l.missing == "" || m.now-l.missingAt >= m.c.Beat {
			l.missing, l.missingAt = l.whoIsMissing(m, members), m.now
		}
		l.waiting = l.missing
		l.yield(m, len(members))
		return false
	}
	if m.now < l.notBefore {
		l.waiting = "nodes that do not reach each other"
		return false
	}
	if other := l.defers(m); other != "" {
		l.waiting = other
		m.repeat("info", other)
		return false
	}
	if m.now < l.heldUntil(m) {
		l.waiting = "another part of the run that cannot be reached has claimed the last generation"
		return false
	}
	for _, p := range m.order {
		if m.fresh(p) && p.report.Head == m.c.Self.ID && p.report.Busy >= 0 && m.now-l.since < 2*m.c.Lease {
			l.waiting = m.name(p.node.ID) + " ends its workers"
			return false
		}
	}
	if len(members) >= m.c.MaxNodes || l.complete(m, members) || m.now-l.lastNew >= m.c.LastCall {
		return true
	}
	l.waiting = "more nodes may come"
	return false
}

// complete says whether all of the last generation that can be in the next are there.
func (l *leader) complete(m *Machine, members []*peer) bool {
	r := m.look.Highest
	if r == nil || r.Number <= m.base {
		return false
	}
	there := map[*peer]bool{}
	for _, p := range members {
		there[p] = true
	}
	for _, member := range r.Members {
		p := m.peers[member.ID]
		if p != nil && p.report != nil && p.report.Leaving {
			continue
		}
		if !there[p] && l.why[member.ID] == "" && !slices.ContainsFunc(members, func(q *peer) bool { return replaces(q.node, member, r) }) {
			return false
		}
	}
	return true
}

// replaces says whether a node that was not in r comes for one that was.
func replaces(n Node, gone Member, r *Record) bool {
	return keyOf(n) == keyOf(gone.Node) && n.ID != gone.ID && r.member(n.ID) < 0
}

// defers says why this agent should not claim although enough follow it: somebody it hears follows a leader that it does not.
func (l *leader) defers(m *Machine) string {
	for _, p := range m.order {
		if p == m.self || !m.fresh(p) || !p.report.HeadOK || p.report.Head == m.c.Self.ID {
			continue
		}
		if p.report.Head == p.node.ID && before(m.c.Self, p.node) < 0 {
			continue // it will see that this agent comes first
		}
		return fmt.Sprintf("%s follows %s, which this agent does not", m.name(p.node.ID), m.name(p.report.Head))
	}
	return ""
}

// heldUntil is how long a generation is left alone that neither this agent nor one that follows it is in, and whose coordinator cannot be
// reached: part of the run goes on beyond a cut network. It lasts while checkpoints come, and twice as long each time that this agent is
// overtaken so: of two parts that could each go on alone one does, instead of both in turn.
func (l *leader) heldUntil(m *Machine) time.Duration {
	r := m.look.Highest
	if r == nil || r.Number <= m.base {
		return 0
	}
	if p := m.peers[r.Coordinator]; p != nil && (p.connected || p.report != nil && p.report.Gone) {
		return 0
	}
	for _, member := range r.Members {
		if p := m.peers[member.ID]; p == m.self || p != nil && m.fresh(p) && p.report.Head == m.c.Self.ID {
			return 0
		}
	}
	return m.heldFrom + max(m.hold, 2*m.c.Lease)
}

// stepAside lets another one lead, as this agent cannot be a member: its node rank is taken, or it has failed too often.
func (l *leader) stepAside(m *Machine) {
	m.unable = m.now + m.c.LastCall + 8*m.c.Lease
	m.log("info", "this node is not to be in the next generation; another one may lead")
	m.lead = nil
}

// yield lets another one lead for a while where too few follow this agent and one of them is connected with more.
func (l *leader) yield(m *Machine, members int) {
	var better *peer
	for _, p := range m.order {
		if p != m.self && m.fresh(p) && p.report.Reach > m.reach && p.report.Reach >= m.c.MinNodes {
			better = p
			break
		}
	}
	switch {
	case better == nil:
		l.worse = 0
	case l.worse == 0:
		l.worse = m.now
	case m.now-l.worse >= 2*m.c.Lease:
		m.unable = m.now + m.c.LastCall + 8*m.c.Lease
		m.log("info", "too few nodes follow this one; another one may lead", "nodes", members, "other", m.name(better.node.ID))
		m.lead = nil
	}
}

// giveUp ends the run when too few nodes have come in time.
func (l *leader) giveUp(m *Machine, members []*peer) {
	at, code := m.limit()
	for _, p := range m.order {
		if m.fresh(p) && p.report.Head == m.c.Self.ID && p.report.Ran >= 0 {
			code, at = codeComeAgain, m.idle+m.c.RejoinTimeout
		}
	}
	if m.now < at {
		return
	}
	reason := l.whoIsMissing(m, members)
	if reason == "" {
		reason = l.waiting
	}
	m.log("error", reason)
	l.finish(m, m.outcome(code, reason), false)
}

// whoIsMissing names the nodes that are waited for.
func (l *leader) whoIsMissing(m *Machine, members []*peer) string {
	if len(members) >= m.c.MinNodes {
		return ""
	}
	text := fmt.Sprintf("%d of at least %d nodes are there", len(members), m.c.MinNodes)
	declared := map[int]bool{}
	for _, p := range members {
		if p.node.Rank >= 0 {
			declared[p.node.Rank] = true
		}
	}
	var missing []string
	if len(declared) == len(members) && len(members) > 0 {
		for rank := range m.c.MaxNodes {
			if !declared[rank] && len(missing) < 20 {
				missing = append(missing, fmt.Sprintf("node rank %d", rank))
			}
		}
	} else if r := m.look.Highest; r != nil {
		for _, member := range r.Members {
			if !slices.ContainsFunc(members, func(p *peer) bool { return p.node.ID == member.ID || p.node.Host == member.Host }) && len(missing) < 20 {
				missing = append(missing, member.Host)
			}
		}
	}
	if len(missing) > 0 {
		text += "; missing: " + strings.Join(missing, ", ")
	}
	return text
}
