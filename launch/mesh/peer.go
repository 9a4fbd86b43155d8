package mesh

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

const maxIDBytes = 128

// peer is another agent that this one knows of. Everything that changes is guarded by Mesh.mu.
type peer struct {
	id     string
	queue  *queue
	kicked chan struct{} // has a token when dialling it is worth a try
	gone   chan struct{} // closed when it is forgotten
	said   state         // what Events has told; of the goroutine that writes them

	addr       string // host:port
	hello      json.RawMessage
	out, in    *conn         // the connection that this agent has dialled, and the one that the peer has
	wait       chan struct{} // closed at the next change of out or up, for calls
	up         bool
	left       bool          // it has said farewell
	epoch      uint64        // how often it has come up
	downs      uint64        // how often this agent has given it up
	theirDowns uint64        // how often it has given up this one
	broken     time.Duration // since when a connection is missing; 0: up and none is
	seen       time.Duration // when it was last connected
	dead       bool          // gossip believes so
	inGossip   bool          // gossip believes it alive
	joined     time.Duration // when gossip was last told of it
}

func (p *peer) conns() []*conn {
	var list []*conn
	for _, c := range []*conn{p.out, p.in} {
		if c != nil {
			list = append(list, c)
		}
	}
	return list
}

// kick has the peer dialled at once if it is waiting to be.
func (p *peer) kick() {
	select {
	case p.kicked <- struct{}{}:
	default:
	}
}

// changeLocked wakes calls that wait for a connection.
func (p *peer) changeLocked() {
	close(p.wait)
	p.wait = make(chan struct{})
}

// meet returns the peer with this ID, which is new if the agent has not heard of it; nil for one that has left, and when there are too many.
func (m *Mesh) meet(id, addr string) *peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.peers[id]
	switch {
	case m.closed || m.leaving || id == m.config.ID:
		return nil
	case p != nil && p.left:
		return nil
	case p != nil:
		if addr != "" && addr != p.addr {
			p.addr = addr
		}
		p.kick()
		return p
	case len(m.peers) >= maxPeers:
		m.warn("too many").Int("peers", len(m.peers)).Msg("too many agents are known: no more are taken")
		return nil
	}
	p = &peer{
		id: id, addr: addr, queue: newQueue(), kicked: make(chan struct{}, 1), gone: make(chan struct{}), wait: make(chan struct{}),
		seen: monotonic(),
	}
	m.peers[id] = p
	m.goroutines.Go(func() { m.keepDialling(p) })
	return p
}

// attach makes c the connection with its peer in its direction. theirDowns is what the peer has said; sentDowns what it was told.
func (m *Mesh) attach(c *conn, h *hello, theirDowns, sentDowns uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := c.peer
	switch {
	case m.closed || m.leaving:
		return fmt.Errorf("agent %s is leaving", m.config.ID)
	case p.left || m.peers[p.id] != p:
		return fmt.Errorf("agent %s has left", p.id)
	case sentDowns != p.downs:
		return fmt.Errorf("agent %s was given up meanwhile", p.id)
	}
	p.hello, p.addr, p.dead = h.Hello, h.Addr, false
	if theirDowns != p.theirDowns {
		p.theirDowns = theirDowns
		if p.up {
			m.fellLocked(p, "it has given this agent up")
		}
	}
	slot := &p.in
	if c.outgoing {
		slot = &p.out
	}
	if *slot != nil {
		(*slot).end("replaced by a newer connection")
	}
	*slot = c
	p.seen = monotonic()
	c.raw.heard.Store(int64(p.seen)) // the greeting may have taken long
	if p.in != nil && p.out != nil {
		p.broken = 0
		if !p.up {
			p.up = true
			p.epoch++
			m.log.WithLevel(level).Str("peer", p.id).Str("address", p.addr).Msg("connected with agent")
			m.changedLocked(p)
		}
	}
	p.changeLocked()
	return nil
}

// lost takes note that a connection has ended.
func (m *Mesh) lost(c *conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := c.peer
	switch c {
	case p.out:
		p.out = nil
	case p.in:
		p.in = nil
	default:
		return
	}
	now := monotonic()
	p.seen = now
	if p.up && p.broken == 0 {
		p.broken = now
	}
	p.changeLocked()
	if !m.closed && !p.left {
		c.mu.Lock()
		reason := c.reason
		c.mu.Unlock()
		m.log.WithLevel(level).Str("peer", p.id).Bool("dialled", c.outgoing).Str("reason", reason).Msg("a connection has ended")
	}
}

// fellLocked marks a peer as down and breaks its connections off.
func (m *Mesh) fellLocked(p *peer, reason string) {
	p.up, p.broken = false, 0
	p.queue.clear()
	for _, c := range p.conns() {
		c.end(reason)
	}
	p.in, p.out = nil, nil
	p.changeLocked()
	m.changedLocked(p)
	m.log.WithLevel(level).Str("peer", p.id).Str("reason", reason).Msg("an agent is down")
}

// farewell takes note that p leaves in order.
func (m *Mesh) farewell(p *peer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.left {
		return
	}
	p.left = true
	m.fellLocked(p, "it said farewell")
	p.kick() // its dialler ends
}

// outgoing returns the connection for calls to a peer, waiting while it is made again.
func (m *Mesh) outgoing(ctx context.Context, id string) (*conn, error) {
	for {
		m.mu.Lock()
		p := m.peers[id]
		if m.closed {
			m.mu.Unlock()
			return nil, ErrClosed
		}
		if p == nil || !p.up {
			m.mu.Unlock()
			return nil, fmt.Errorf("%w: %s", ErrNotConnected, id)
		}
		c, wait := p.out, p.wait
		m.mu.Unlock()
		if c != nil {
			return c, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-m.ctx.Done():
			return nil, ErrClosed
		}
	}
}

// watch breaks off connections that are silent and gives up peers that are gone.
func (m *Mesh) watch() {
	last := monotonic()
	for m.sleep(m.timing.tick) {
		now := monotonic()
		if late := now - last - m.timing.tick; late > m.timing.tick {
			m.pardon(now, late)
		}
		last = now
		m.look(now)
		m.greetGossip(now)
	}
}

// pardon does not count time in which this process did not run (stopped, starved, suspended) as silence of others.
func (m *Mesh) pardon(now, late time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.peers {
		if p.broken > 0 {
			p.broken = min(p.broken+late, now)
		}
		for _, c := range p.conns() {
			heard := c.raw.heard.Load()
			c.raw.heard.CompareAndSwap(heard, min(heard+int64(late), int64(now))) // else a byte has just come
		}
	}
}

// look applies the rules of timing to every peer, at the time now.
func (m *Mesh) look(now time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.peers {
		quiet := now - p.seen
		for i, c := range p.conns() {
			silent := c.silent(now)
			if silent <= m.timing.silence {
				c.doubted = false
			} else if !c.doubted {
				c.doubted = true // what has come may not have been read yet, where all cores are busy: at the next look it has
			} else {
				c.end(fmt.Sprintf("nothing was heard for %v", silent.Round(100*time.Millisecond)))
			}
			if i == 0 || silent < quiet {
				quiet = silent
			}
		}
		switch {
		case !p.up && len(p.conns()) == 0 && now-p.seen > m.timing.forget:
			delete(m.peers, p.id)
			close(p.gone)
		case !p.up:
		case p.broken > 0 && now-p.broken > m.timing.grace:
			p.downs++
			m.fellLocked(p, "its connection broke and was not made again")
		case p.dead && quiet > m.timing.hint:
			p.downs++
			m.fellLocked(p, "nothing is heard of it, by others either")
		}
	}
}
