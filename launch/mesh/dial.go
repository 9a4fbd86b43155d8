package mesh

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"
)

// dial makes a TLS connection with addr (host:port) for one use, with a deadline on it that the caller lifts.
func (m *Mesh) dial(ctx context.Context, addr, use string) (*heardConn, *tls.Conn, error) {
	plain, err := m.dialPlain(ctx, addr)
	if err != nil {
		return nil, nil, err
	}
	// Where many agents are found at once, some are greeted soon and not all of them too late.
	asked := time.Now()
	select {
	case m.greetings <- struct{}{}:
		defer func() { <-m.greetings }()
	case <-ctx.Done():
		plain.Close()
		return nil, nil, fmt.Errorf("TLS with %s: %w", addr, ctx.Err())
	}
	if time.Since(asked) > greetTimeout/10 { // the other side's clock has run meanwhile
		plain.Close()
		if plain, err = m.dialPlain(ctx, addr); err != nil {
			return nil, nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	raw := &heardConn{Conn: plain}
	deadline, _ := ctx.Deadline()
	raw.SetDeadline(deadline)
	secure := tls.Client(raw, m.identity.config(use))
	if err := secure.HandshakeContext(ctx); err != nil {
		plain.Close()
		if errors.Is(err, errOtherKey) || refusedKey(err) {
			m.notOurs(plain.RemoteAddr(), err)
		}
		return nil, nil, fmt.Errorf("TLS with %s: %w", addr, err)
	}
	return raw, secure, nil
}

// dialPlain connects with the first address of addr's host that answers.
func (m *Mesh) dialPlain(ctx context.Context, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	hosts, err := m.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	for _, h := range hosts {
		var conn net.Conn
		if conn, err = m.network.dial(ctx, net.JoinHostPort(h, port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// keepDialling keeps a connection with p as long as it is worth it.
func (m *Mesh) keepDialling(p *peer) {
	pause := time.Duration(0)
	for {
		m.mu.Lock()
		over := m.closed || m.leaving || p.left
		m.mu.Unlock()
		if over || !m.pauseDialling(p, pause) {
			return
		}
		c, err := m.dialPeer(p)
		if err == nil {
			c.serve()
			pause = 0
			continue
		}
		m.bounded(level, "dial "+p.id).Str("peer", p.id).Err(err).Msg("cannot connect")
		switch {
		case errors.Is(err, errSelf):
			return
		case errors.Is(err, errRefused):
			pause = m.timing.refused
		default:
			pause = min(max(2*pause, m.timing.retryMin), m.timing.retryMax)
			m.unreachable(p, err)
		}
	}
}

// pauseDialling waits between two attempts. It says whether there is to be another one.
func (m *Mesh) pauseDialling(p *peer, pause time.Duration) bool {
	timer := time.NewTimer(jitter(pause))
	defer timer.Stop()
	kicked := p.kicked
	if pause == m.timing.refused {
		kicked = nil // it says the same
	}
	select {
	case <-timer.C:
	case <-kicked:
	case <-p.gone:
		return false
	case <-m.ctx.Done():
		return false
	}
	return true
}

// jitter keeps many agents from doing the same at the same time.
func jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(rand.Int64N(int64(d/2)+1))
}

// dialPeer makes this agent's connection with p.
func (m *Mesh) dialPeer(p *peer) (*conn, error) {
	m.mu.Lock()
	addr := p.addr
	m.mu.Unlock()
	raw, secure, err := m.dial(m.ctx, addr, useControl)
	if err != nil {
		return nil, err
	}
	lines, h, err := m.introduce(secure, addr)
	switch {
	case err == nil && h.ID != p.id: // the port is another agent's now
		m.meet(h.ID, h.Addr)
		m.forget(p)
		err = fmt.Errorf("%s is agent %s now", addr, h.ID)
	case err == nil:
		c := newConn(m, p, raw, secure, lines, true)
		if err = m.attachOutgoing(c, h); err == nil {
			raw.SetDeadline(time.Time{})
			return c, nil
		}
		c.cancel()
	}
	raw.Close()
	return nil, err
}

// attachOutgoing attaches a connection that was dialled, and has ready be its first line: only then may messages follow.
func (m *Mesh) attachOutgoing(c *conn, h *hello) error {
	m.mu.Lock()
	downs := c.peer.downs
	m.mu.Unlock()
	var err error
	if c.first, err = encode(frame{Ready: &ready{Downs: downs}}); err != nil {
		return err
	}
	return m.attach(c, h, h.Downs, downs)
}

// forget gives up a peer whose address belongs to another agent.
func (m *Mesh) forget(p *peer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.peers[p.id] != p || p.up || len(p.conns()) > 0 {
		return
	}
	delete(m.peers, p.id)
	close(p.gone)
}

// unreachable says so where a peer that reaches this agent cannot be reached itself: what it advertises is wrong.
func (m *Mesh) unreachable(p *peer, err error) {
	m.mu.Lock()
	addr, oneWay := p.addr, p.in != nil && !p.up && monotonic()-p.seen > m.timing.silence
	m.mu.Unlock()
	if oneWay {
		m.warn("one way "+p.id).Str("peer", p.id).Str("address", addr).Err(err).
			Msg("an agent reaches this node but is not reached at the address that it advertises: give --advertise there, and open the port")
	}
}
