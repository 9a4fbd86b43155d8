package agree

import "time"

// network is which hosts can reach which, by directed links.
type network struct {
	cut   map[[2]int]int  // how many faults cut the link
	paths map[[2]int]bool // pairs whose data-plane path is cut, the lesser first
	slow  bool
	loss  float64
	twice float64
}

func (n *network) passes(from, to int) bool { return n.cut[[2]int{from, to}] == 0 }

// open says whether two hosts reach each other both ways.
func (n *network) open(a, b int) bool { return n.passes(a, b) && n.passes(b, a) }

// path says whether ranks of two hosts reach each other.
func (n *network) path(a, b int) bool { return n.open(a, b) && !n.paths[[2]int{min(a, b), max(a, b)}] }

// block cuts a link, or joins it again.
func (s *sim) block(from, to, by int) {
	s.net.cut[[2]int{from, to}] += by
	if s.net.cut[[2]int{from, to}] == 0 {
		delete(s.net.cut, [2]int{from, to})
	}
	if a, b := s.hosts[from].p, s.hosts[to].p; a != nil && b != nil {
		s.refresh(a, b)
	}
}

// refresh lets the mesh of each of two agents notice, sooner or later, whether they are connected.
func (s *sim) refresh(a, b *process) {
	for _, pair := range [][2]*process{{a, b}, {b, a}} {
		from, to := pair[0], pair[1]
		wait := s.between(time.Millisecond, 800*time.Millisecond)
		if to.alive && !s.net.open(from.host.i, to.host.i) {
			wait = s.between(time.Millisecond, 5*time.Second) // what is cut is noticed later
		}
		s.after(wait, func() {
			if !from.alive {
				return
			}
			up := to.alive && s.net.open(from.host.i, to.host.i)
			if up == from.told[to.node.ID] {
				return
			}
			from.told[to.node.ID] = up
			if up {
				if s.onConnect != nil {
					s.onConnect()
				}
				from.give(Connected{to.node})
			} else {
				from.give(Disconnected{ID: to.node.ID, Farewell: !to.alive && s.chance(0.3)})
			}
		})
	}
}

// send delivers a message late, twice, out of order, or not at all.
func (s *sim) send(p *process, o Send) {
	s.messages++
	to := s.byID[o.To]
	if to == nil {
		s.violate("%s sends to %q", p.node.ID, o.To)
		return
	}
	m := s.encode(o.Message)
	times := 1
	if s.chance(s.net.twice) {
		times = 2
	}
	for range times {
		if s.chance(s.net.loss) || !s.net.passes(p.host.i, to.host.i) {
			continue
		}
		delay := s.between(100*time.Microsecond, 5*time.Millisecond)
		if s.net.slow {
			delay = s.between(time.Millisecond, 600*time.Millisecond)
			if s.chance(0.01) {
				delay = s.between(0, 20*time.Second)
			}
		}
		s.after(delay, func() {
			if s.net.passes(p.host.i, to.host.i) {
				to.give(Heard{From: p.node.ID, Message: m})
			}
		})
	}
}
