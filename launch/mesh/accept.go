package mesh

import (
	"container/list"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// maxPending bounds the connections that have not proven themselves.
const maxPending = 256

// pending holds those connections, the oldest first.
type pending struct {
	mu     sync.Mutex
	conns  list.List // of net.Conn
	closed bool
}

// add takes conn in. When there are too many the oldest is closed: one that means well is done within milliseconds, so it is one that does not.
func (p *pending) add(conn net.Conn) (e *list.Element, evicted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		conn.Close()
	}
	e = p.conns.PushBack(conn)
	if p.conns.Len() > maxPending {
		p.conns.Remove(p.conns.Front()).(net.Conn).Close()
		evicted = true
	}
	return e, evicted
}

// remove lets conn go, which may have been evicted.
func (p *pending) remove(e *list.Element) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns.Remove(e)
}

func (p *pending) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for e := p.conns.Front(); e != nil; e = e.Next() {
		e.Value.(net.Conn).Close()
	}
}

// accept takes connections until the listener is closed.
func (m *Mesh) accept() {
	for {
		conn, err := m.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || m.ctx.Err() != nil {
				return
			}
			m.warn("accept").Err(err).Msg("cannot take connections")
			if !m.sleep(100 * time.Millisecond) { // no descriptors: they come back
				return
			}
			continue
		}
		e, evicted := m.pending.add(conn)
		if evicted {
			m.warn("pending").Str("newest", conn.RemoteAddr().String()).Msg("too many connections that do not prove that they belong to the job: the oldest are closed")
		}
		if !m.spawn(func() { m.greet(conn, e) }) {
			conn.Close()
			return
		}
	}
}

// greet has a new connection prove itself, and then does what it is for.
func (m *Mesh) greet(plain net.Conn, e *list.Element) {
	raw := &heardConn{Conn: plain}
	raw.SetDeadline(time.Now().Add(greetTimeout))
	secure := tls.Server(raw, m.identity.tls)
	release := sync.OnceFunc(func() { m.pending.remove(e) })
	defer release()
	if err := secure.Handshake(); err != nil {
		plain.Close()
		m.notOurs(plain.RemoteAddr(), err)
		return
	}
	switch secure.ConnectionState().NegotiatedProtocol {
	case useControl:
		m.welcome(raw, secure, release)
	case useGossip:
		raw.SetDeadline(time.Time{}) // memberlist sets its own
		release()
		m.gossip.transport.stream(secure, raw)
	case useEcho:
		echo(secure)
		plain.Close()
	default:
		plain.Close()
	}
}

// notOurs logs a connection that did not prove itself.
func (m *Mesh) notOurs(addr net.Addr, err error) {
	host := hostOf(addr)
	switch {
	case m.ctx.Err() != nil || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF):
		return // a port that is only tried is no news
	case errors.Is(err, errOtherKey):
		m.warn("key "+host).Str("address", addr.String()).Msg("refused an agent: " + err.Error() + ": give all nodes the same --key-file or DDPRUN_KEY")
	case refusedKey(err):
		m.warn("key "+host).Str("address", addr.String()).Msg("an agent refuses this one: its job's key is another one: give all nodes the same --key-file or DDPRUN_KEY")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		m.bounded(level, "tls "+host).Str("address", addr.String()).Err(err).Msg("a connection ended before it proved itself") // as where an agent dies
	default:
		m.warn("tls "+host).Str("address", addr.String()).Err(err).Msg("refused a connection that is no agent's")
	}
}

// hostOf is an address without its port, which outsiders can vary at will.
func hostOf(addr net.Addr) string {
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return host
}
