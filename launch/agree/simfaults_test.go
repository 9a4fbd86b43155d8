package agree

import (
	"math/rand/v2"
	"time"
)

// newSim makes a world from a seed. hosts: 0 for a number from the seed.
func newSim(seed uint64, hosts int) *sim {
	s := &sim{seed: seed, r: rand.New(rand.NewPCG(seed, 1)), byID: map[string]*process{}, worlds: map[int]*world{}, codes: map[int][]string{}, firsts: map[int]map[string]string{}}
	s.net.cut = map[[2]int]int{}
	s.fs = files{s: s, begun: map[int]int64{}, slow: map[int]bool{}, failing: map[int]bool{}, hung: map[int]bool{}}
	if hosts == 0 {
		hosts = 1 + s.r.IntN(6)
		if s.chance(0.03) {
			hosts = 1 + s.r.IntN(64)
		}
	}
	s.c = Config{
		RunID: "run", Digest: "d", MaxNodes: hosts, MinNodes: 1 + s.r.IntN(hosts), MaxRestarts: 1000,
		LastCall: s.between(0, time.Second), JoinTimeout: 10 * time.Minute, RejoinTimeout: 10 * time.Minute,
		ConfirmTimeout: s.between(2*time.Second, 10*time.Second), SkipFinished: true, LeaversReturn: seed%2 == 0,
	}
	if s.chance(0.3) {
		s.c.LastCall = s.between(0, 10*time.Second)
	}
	if s.chance(0.3) {
		s.c.MinNodes = hosts
	}
	if s.chance(0.1) {
		s.c.MaxRestarts = s.r.IntN(4)
	}
	s.wire = s.chance(0.1)
	s.total = 5 + s.r.Int64N(60)
	if s.chance(0.5) {
		s.total = 5 + s.r.Int64N(400)
	}
	declared := s.chance(0.6)
	for i := range hosts {
		h := &host{i: i, rank: -1}
		if declared {
			h.rank = i
		}
		s.hosts = append(s.hosts, h)
	}
	if s.chance(0.2) { // a spare, which has a node rank of its own or another's
		h := &host{i: hosts, rank: -1}
		if declared {
			h.rank = s.r.IntN(hosts + 1)
		}
		s.hosts = append(s.hosts, h)
	}
	for range kindsOfFaults {
		w := s.r.Float64()
		s.weights = append(s.weights, w*w*w)
	}
	return s
}

// faults schedules a random life until calm; then everything works.
func (s *sim) faults(calm time.Duration) {
	s.calm = calm
	s.net.slow = s.chance(0.5)
	s.net.loss = s.r.Float64() * 0.2 * float64(s.r.IntN(2))
	s.net.twice = s.r.Float64() * 0.2
	for _, h := range s.hosts {
		s.after(s.between(0, 5*time.Second), func() { s.boot(h) })
	}
	if s.chance(0.15) {
		s.after(s.between(0, calm), s.leaveAll)
	}
	rate := s.between(200*time.Millisecond, 6*time.Second)
	var next func()
	next = func() {
		if s.now >= calm {
			return
		}
		s.fault()
		s.after(s.between(0, 2*rate), next)
	}
	s.after(s.between(0, 2*rate), next)
	s.after(calm, func() {
		s.note("calm")
		s.net.slow, s.net.loss, s.net.twice = false, 0, 0
	})
}

const kindsOfFaults = 13

// kind draws a kind of fault: each schedule has its own taste.
func (s *sim) kind() int {
	var sum float64
	for _, w := range s.weights {
		sum += w
	}
	at := s.r.Float64() * sum
	for i, w := range s.weights {
		if at -= w; at <= 0 {
			return i
		}
	}
	return len(s.weights) - 1
}

// victim draws a host, often that of the coordinator.
func (s *sim) victim() *host {
	if n := len(s.fs.records); n > 0 && s.chance(0.4) {
		return s.byID[s.fs.records[n-1].Coordinator].host
	}
	return s.hosts[s.r.IntN(len(s.hosts))]
}

// fault is one fault, or a few that belong together.
func (s *sim) fault() {
	h := s.victim()
	length := s.between(100*time.Millisecond, 10*time.Second)
	length = min(length, s.calm-s.now)
	switch s.kind() {
	case 0, 1:
		if h.p != nil {
			s.crash(h.p)
			s.again(h)
		}
	case 2, 3:
		if h.p != nil {
			s.stop(h.p, length)
		}
	case 4:
		s.partition(length)
	case 5:
		other := s.hosts[s.r.IntN(len(s.hosts))]
		if other != h {
			s.cut(h.i, other.i, length)
			if s.chance(0.5) {
				s.cut(other.i, h.i, length)
			}
		}
	case 6: // one is alone
		for _, other := range s.hosts {
			if other != h {
				s.cut(h.i, other.i, length)
				s.cut(other.i, h.i, length)
			}
		}
	case 7:
		s.ill(s.fs.slow, h.i, length)
	case 8:
		s.ill(s.fs.failing, h.i, length)
	case 9:
		if s.chance(0.3) {
			for _, h := range s.hosts {
				s.ill(s.fs.hung, h.i, length)
			}
		} else {
			s.ill(s.fs.hung, h.i, length)
		}
	case 10, 11:
		if h.p != nil && len(h.p.jobs) > 0 {
			s.stats.failures++
			f := Failure{Echo: 1, ExitCode: 1, Message: "a fault"}
			if s.chance(0.02) {
				f.ExitCode, f.Echo = codeConfig, 0
			} else if s.chance(0.02) {
				f.Permanent = true
			}
			h.p.jobs[len(h.p.jobs)-1].fail(f)
		}
	case 12:
		if h.p != nil && s.chance(0.5) {
			s.leave(h.p)
		} else if h.p != nil && s.chance(0.3) {
			s.note("kill %s", h.p.node.ID)
			p := h.p
			p.killed = true
			p.give(Kill{Code: 130})
			p.endsWithin(5 * time.Second)
		}
	}
}

// endsWithin checks that an agent ends in time, not counting the time that it is stopped.
func (p *process) endsWithin(d time.Duration) {
	s := p.sim
	s.after(d, func() {
		switch {
		case !p.alive:
		case p.stopped || s.now-p.continued < d:
			p.endsWithin(d)
		default:
			s.violate("%s does not end", p.node.ID)
		}
	})
}

func (s *sim) leave(p *process) {
	s.note("%s is asked to leave", p.node.ID)
	s.stats.leaves++
	p.leaves = true
	p.give(Leave{Reason: "TERM", Code: 143})
	p.endsWithin(45 * time.Second)
}

func (s *sim) leaveAll() {
	s.note("all are asked to leave")
	for _, h := range s.hosts {
		if h.p != nil {
			s.leave(h.p)
		}
	}
}

// cut cuts a directed link for a while.
func (s *sim) cut(from, to int, d time.Duration) {
	s.note("cut host%d -> host%d for %v", from, to, d)
	s.stats.cuts++
	s.block(from, to, 1)
	s.after(d, func() { s.block(from, to, -1) })
}

// partition cuts the hosts into two.
func (s *sim) partition(d time.Duration) {
	side := map[int]bool{}
	for _, h := range s.hosts {
		side[h.i] = s.chance(0.5)
	}
	oneWay := s.chance(0.2)
	for _, a := range s.hosts {
		for _, b := range s.hosts {
			if side[a.i] && !side[b.i] {
				s.cut(a.i, b.i, d)
				if !oneWay {
					s.cut(b.i, a.i, d)
				}
			}
		}
	}
}

// ill lets a host's file system be slow, failing or hung for a while.
func (s *sim) ill(what map[int]bool, host int, d time.Duration) {
	if what[host] {
		return
	}
	s.stats.slow++
	s.note("the file system of host%d is ill for %v", host, d)
	what[host] = true
	s.after(d, func() { delete(what, host) })
}
