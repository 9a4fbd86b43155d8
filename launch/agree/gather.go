package agree

import (
	"fmt"
	"slices"
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
	if v.ran && len(staying) < m.c.MinNodes && (len(staying) == 0 || !m.c.LeaversReturn) {
		o := m.outcome(codeComeAgain, fmt.Sprintf("%s leaves: %s", m.name(leaving[0].node.ID), leaving[0].report.Reason))
		o.Failure = v.failure
		l.finish(m, o, true)
		return
	}
	l.dismiss = true
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
	return keyOf(n) == keyOf(gone.Node) && n.ID != gone.ID && r.Index(n.ID) < 0
}
