package agree

import (
	"slices"
	"time"
)

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
	l.granted, l.how, l.reason, l.unasked = map[string]time.Duration{}, "", "", false
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
