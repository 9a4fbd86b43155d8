package agree

import (
	"cmp"
	"slices"
)

// plan makes the record of the next generation.
func (l *leader) plan(m *Machine, eligible []*peer) *Record {
	nodes := make([]Node, 0, len(eligible))
	for _, p := range l.choose(m, eligible) {
		nodes = append(nodes, p.node)
	}
	last := m.look.Highest
	r := &Record{
		Number: m.look.Next, RunID: m.c.RunID, Coordinator: m.c.Self.ID, Members: assign(nodes, last), Start: m.look.Newest,
	}
	most := 0
	for _, member := range r.Members {
		r.World += member.NProc
		most = max(most, member.NProc)
	}
	r.MaxWorld = r.World + max(0, m.c.MaxNodes-len(r.Members))*most
	if last == nil || m.is(weakBudget) {
		return r
	}
	if v := l.verdict; v != nil && l.judged == last.Number {
		r.Restarts, r.Barren, r.Cause = v.restarts, v.barren, v.cause
	} else {
		r.Restarts, r.Barren, r.Cause = last.Restarts, last.Barren, last.Cause
	}
	r.Losses = l.lossesNow(m)
	for key := range m.excluded(r.Losses) {
		r.Excluded = append(r.Excluded, key)
	}
	slices.Sort(r.Excluded)
	r.Fence = l.stillThere(m, r, last)
	return r
}

// stillThere are the agents that may run workers of a generation before r, besides the members of r.
func (l *leader) stillThere(m *Machine, r, last *Record) []string {
	if m.c.Exclusive || covers(m.look.Outcome, last.Number) {
		return nil
	}
	before := ids(last.Members)
	if v := l.verdict; !(v != nil && l.judged == last.Number && v.ran) && m.now-m.seenAt < m.c.Lease+m.margin() {
		before = append(before, last.Fence...)
	}
	var all []string
	for _, id := range before {
		p := m.peers[id]
		if r.Index(id) < 0 && !slices.Contains(all, id) && (p == nil || p.report == nil || !p.report.Gone) {
			all = append(all, id)
		}
	}
	return all
}

// choose takes at most MaxNodes: this agent, then members of the last generation, then in order.
func (l *leader) choose(m *Machine, eligible []*peer) []*peer {
	class := map[*peer]int{}
	for _, p := range eligible {
		switch {
		case p == m.self:
		case m.look.Highest != nil && m.look.Highest.Index(p.node.ID) >= 0:
			class[p] = 1
		default:
			class[p] = 2
		}
	}
	chosen := slices.Clone(eligible)
	slices.SortStableFunc(chosen, func(a, b *peer) int { return cmp.Compare(class[a], class[b]) })
	return chosen[:min(len(chosen), m.c.MaxNodes)]
}

// assign gives nodes their ranks: those with declared node ranks first, in that order; the others keep their order in the
// last generation, and who is new takes the place of who is gone, a node of the same host before others.
func assign(nodes []Node, last *Record) []Member {
	slices.SortFunc(nodes, before)
	declared := slices.IndexFunc(nodes, func(n Node) bool { return n.Rank < 0 })
	if declared < 0 {
		declared = len(nodes)
	}
	ordered := slices.Clone(nodes[:declared])
	rest := slices.Clone(nodes[declared:])
	take := func(is func(Node) bool) (Node, bool) {
		i := slices.IndexFunc(rest, is)
		if i < 0 {
			return Node{}, false
		}
		n := rest[i]
		rest = slices.Delete(rest, i, i+1)
		return n, true
	}
	var places []*Node
	if last != nil {
		var free []Member
		at := map[string]int{}
		for _, member := range last.Members {
			if member.Rank >= 0 {
				continue
			}
			at[member.ID] = len(places)
			places = append(places, nil)
			if n, ok := take(func(n Node) bool { return n.ID == member.ID }); ok {
				places[at[member.ID]] = &n
			} else {
				free = append(free, member)
			}
		}
		for _, member := range free {
			if n, ok := take(func(n Node) bool { return n.Host == member.Host }); ok {
				places[at[member.ID]] = &n
			}
		}
	}
	for _, n := range places {
		if n == nil && len(rest) > 0 {
			n, rest = &rest[0], rest[1:]
		}
		if n != nil {
			ordered = append(ordered, *n)
		}
	}
	ordered = append(ordered, rest...)
	members, rank := make([]Member, len(ordered)), 0
	for i, n := range ordered {
		members[i] = Member{Node: n, GroupRank: i, FirstRank: rank}
		rank += n.NProc
	}
	return members
}

// leaveOut says which members go so that no failed pair is left among the others: each time the one with most failed pairs, of equals
// the later one, never the coordinator.
func leaveOut(members []string, coordinator string, failed [][2]string) []string {
	var out []string
	for {
		count := map[string]map[string]bool{}
		add := func(a, b string) {
			if count[a] == nil {
				count[a] = map[string]bool{}
			}
			count[a][b] = true
		}
		for _, pair := range failed {
			if pair[0] != pair[1] && !slices.Contains(out, pair[0]) && !slices.Contains(out, pair[1]) {
				add(pair[0], pair[1])
				add(pair[1], pair[0])
			}
		}
		worst := ""
		for _, id := range members {
			if n := len(count[id]); n > 0 && id != coordinator && n >= len(count[worst]) {
				worst = id
			}
		}
		if worst == "" {
			return out
		}
		out = append(out, worst)
	}
}
