package mesh

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"time"
)

// errSelf: the address is this agent's own.
var errSelf = errors.New("this agent itself")

// errRefused: one of the two agents does not admit the other.
var errRefused = errors.New("refused")

// hello returns this agent's first line to a peer that it has given up so often.
func (m *Mesh) hello(downs uint64) frame {
	return frame{Hello: &hello{
		Protocol: protocol, ID: m.config.ID, RunID: m.config.RunID, Addr: m.Addr(), Downs: downs, Hello: m.config.Hello,
	}}
}

// refusal says why the agent that says h may not take part; empty: it may.
func (m *Mesh) refusal(h *hello) string {
	switch {
	case h.Protocol != protocol:
		return fmt.Sprintf("agents speak different protocols, %d and %d: use one version of ddprun on all nodes", m.hello(0).Hello.Protocol, h.Protocol)
	case h.ID == "" || len(h.ID) > maxIDBytes || h.Addr == "" || len(h.Addr) > 300:
		return "its hello has no ID or no address"
	case h.RunID != m.config.RunID:
		return fmt.Sprintf("another run: %q at %s, %q at %s", m.config.RunID, m.config.ID, h.RunID, h.ID)
	case m.config.Admit == nil:
		return ""
	}
	if err := m.config.Admit(h.Hello); err != nil {
		return textOf(err)
	}
	return ""
}

// refuses logs that this agent does not admit another one.
func (m *Mesh) refuses(id, addr, reason string) {
	m.warn("refuse "+addr).Str("peer", id).Str("address", addr).Str("reason", reason).Msg("refused an agent")
}

// refusedBy logs that another agent does not admit this one.
func (m *Mesh) refusedBy(id, addr, reason string) {
	m.warn("refused "+addr).Str("peer", id).Str("address", addr).Str("reason", reason).Msg("an agent refuses this one")
}

// welcome answers the greeting of an agent that has dialled, and serves the connection. release is called once it has proven itself.
func (m *Mesh) welcome(raw *heardConn, secure *tls.Conn, release func()) {
	defer raw.Close()
	lines := newLineReader(secure, maxHelloBytes)
	f, err := lines.next()
	if err != nil || f.Hello == nil {
		m.badGreeting(raw, f, err)
		return
	}
	h := f.Hello
	if h.ID == m.config.ID {
		m.sendLine(secure, m.hello(0))
		return
	}
	if reason := m.refusal(h); reason != "" {
		m.refuses(h.ID, hostOf(raw.RemoteAddr()), reason)
		m.sendLine(secure, frame{Refused: reason})
		return
	}
	p := m.meet(h.ID, h.Addr)
	if p == nil {
		m.sendLine(secure, frame{Refused: "agent " + m.config.ID + " is leaving, or takes no more agents"})
		return
	}
	m.mu.Lock()
	downs := p.downs
	m.mu.Unlock()
	if m.sendLine(secure, m.hello(downs)) != nil {
		return
	}
	f, err = lines.next()
	if err != nil || f.Ready == nil {
		if f.Refused == "" && errors.Is(err, io.EOF) {
			return // it only asked who is here
		}
		m.badGreeting(raw, f, err)
		return
	}
	raw.SetDeadline(time.Time{})
	release()
	c := newConn(m, p, raw, secure, lines, false)
	if err := m.attach(c, h, f.Ready.Downs, downs); err != nil {
		c.cancel()
		return
	}
	c.serve()
}

func (m *Mesh) badGreeting(raw *heardConn, f frame, err error) {
	host := hostOf(raw.RemoteAddr())
	switch {
	case m.ctx.Err() != nil:
	case err != nil && refusedKey(err):
		m.notOurs(raw.RemoteAddr(), err)
	case err != nil:
		m.bounded(level, "greeting "+host).Str("address", host).Err(err).Msg("a greeting ended early")
	case f.Refused != "":
		m.refusedBy("", host, f.Refused)
	default:
		m.bounded(level, "greeting "+host).Str("address", host).Msg("not a greeting")
	}
}

// sendLine writes f on a connection that has no writer yet.
func (m *Mesh) sendLine(secure *tls.Conn, f frame) error {
	data, err := encode(f)
	if err == nil {
		_, err = secure.Write(data)
	}
	return err
}

// introduce greets whoever answers on a connection that this agent has dialled. It returns the reader with the other's hello, errSelf, or
// errRefused with the reason.
func (m *Mesh) introduce(secure *tls.Conn, addr string) (*lineReader, *hello, error) {
	lines := newLineReader(secure, maxHelloBytes)
	if err := m.sendLine(secure, m.hello(0)); err != nil {
		return nil, nil, err
	}
	f, err := lines.next()
	switch {
	case refusedKey(err): // in TLS 1.3 the end that dials hears of it late
		m.notOurs(secure.RemoteAddr(), err)
		return nil, nil, err
	case err != nil:
		return nil, nil, err
	case f.Refused != "":
		m.refusedBy("", addr, f.Refused)
		return nil, nil, fmt.Errorf("%w: %s", errRefused, f.Refused)
	case f.Hello == nil:
		return nil, nil, errors.New("it does not answer with a hello")
	case f.Hello.ID == m.config.ID:
		return nil, nil, errSelf
	}
	if reason := m.refusal(f.Hello); reason != "" {
		m.refuses(f.Hello.ID, addr, reason)
		m.sendLine(secure, frame{Refused: reason})
		return nil, nil, fmt.Errorf("%w: %s", errRefused, reason)
	}
	return lines, f.Hello, nil
}
