package agree

import "time"

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
