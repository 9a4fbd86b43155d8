package agree

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

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
