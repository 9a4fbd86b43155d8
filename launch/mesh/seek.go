package mesh

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// Pauses between two looks at the names of Config.Join.
const (
	seekMin    = 200 * time.Millisecond
	seekMax    = 5 * time.Second
	seekAgain  = 10 * time.Second // once all are found: names may come to mean other nodes
	seekAtOnce = 16               // addresses asked at the same time
)

// seeker looks for agents at the addresses that Config.Join leads to.
type seeker struct {
	mesh   *Mesh
	self   map[string]bool   // addresses at which this agent itself answers
	agents map[string]string // by address: ID of who answered
	wait   map[string]time.Time
}

// seek keeps asking who is at the addresses of Config.Join.
func (m *Mesh) seek() {
	s := &seeker{mesh: m, self: map[string]bool{}, agents: map[string]string{}, wait: map[string]time.Time{}}
	began := time.Now()
	pause := seekMin
	warned := false
	for len(m.config.Join) > 0 {
		missing := s.pass()
		switch {
		case missing == nil:
			pause = seekAgain
		case pause == seekAgain:
			pause = seekMin
		}
		if missing != nil && !warned && time.Since(began) > m.config.JoinTimeout {
			warned = true
			m.log.Warn().Err(missing).Msg("a node to join was not found in time; it is looked for on")
		}
		if missing != nil {
			m.bounded(level, "seek").Err(missing).Msg("not yet joined")
		}
		if !m.sleep(jitter(pause)) {
			return
		}
		if pause < seekMax {
			pause = min(2*pause, seekMax)
		}
	}
}

// pass asks at every address once, where that is not known, as soon as its name resolves. It returns what is still missing.
func (s *seeker) pass() error {
	var missing error
	type result struct {
		addr, id string
		err      error
	}
	results := make(chan result)
	slots := make(chan struct{}, seekAtOnce)
	asked := map[string]bool{}
	running := 0
	names := s.mesh.lookupJoin(s.mesh.ctx)
	for names != nil || running > 0 {
		select {
		case found, open := <-names:
			if !open {
				names = nil
				continue
			}
			if found.err != nil {
				missing = found.err
			}
			for _, addr := range s.mesh.joinAddrs(found) {
				if asked[addr] || s.known(addr) {
					continue
				}
				asked[addr] = true
				if time.Now().Before(s.wait[addr]) {
					missing = fmt.Errorf("%s refused this agent", addr)
					continue
				}
				if s.mesh.spawn(func() {
					slots <- struct{}{}
					id, err := s.mesh.ask(addr)
					<-slots
					results <- result{addr, id, err}
				}) {
					running++
				}
			}
		case r := <-results:
			running--
			switch {
			case r.err == nil:
				s.agents[r.addr] = r.id
			case errors.Is(r.err, errSelf):
				s.self[r.addr] = true
			default:
				missing = r.err
				if errors.Is(r.err, errRefused) {
					s.wait[r.addr] = time.Now().Add(s.mesh.timing.refused)
				}
			}
		}
	}
	return missing
}

// known says whether there is no need to ask at addr.
func (s *seeker) known(addr string) bool {
	if s.self[addr] {
		return true
	}
	s.mesh.mu.Lock()
	defer s.mesh.mu.Unlock()
	if p := s.mesh.peers[s.agents[addr]]; p != nil && p.out != nil {
		return true
	}
	for _, p := range s.mesh.peers {
		if p.addr == addr && p.out != nil {
			return true
		}
	}
	return false
}

// ask learns who answers at addr, and makes it known.
func (m *Mesh) ask(addr string) (id string, err error) {
	raw, secure, err := m.dial(m.ctx, addr, useControl)
	if err != nil {
		return "", err
	}
	defer raw.Close()
	_, h, err := m.introduce(secure, addr)
	if err != nil {
		return "", err
	}
	m.meet(h.ID, h.Addr)
	return h.ID, nil
}

// joinAddrs returns the addresses (IP:port) that an entry of Config.Join stands for.
func (m *Mesh) joinAddrs(found looked) []string {
	_, port := splitJoin(m.config.Join[found.entry], m.config.Port)
	if port == 0 {
		return nil // the kernel chooses ports: this one is not known yet
	}
	addrs := make([]string, len(found.hosts))
	for i, h := range found.hosts {
		addrs[i] = net.JoinHostPort(h, strconv.Itoa(port))
	}
	return addrs
}

// splitJoin cuts host[:port], where host may be an IPv6 address with or without brackets.
func splitJoin(entry string, port int) (string, int) {
	if _, err := netip.ParseAddr(entry); err == nil {
		return entry, port
	}
	host, text, err := net.SplitHostPort(entry)
	if err != nil {
		if len(entry) > 2 && entry[0] == '[' && entry[len(entry)-1] == ']' {
			return entry[1 : len(entry)-1], port
		}
		return entry, port
	}
	if n, err := strconv.Atoi(text); err == nil {
		return host, n
	}
	return entry, port
}
