package agree

import (
	"fmt"
	"slices"
)

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
		if r := m.look.Highest; r != nil && (r.Index(a.node.ID) >= 0) != (r.Index(b.node.ID) >= 0) {
			return r.Index(a.node.ID) >= 0
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
