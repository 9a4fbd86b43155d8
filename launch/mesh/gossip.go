package mesh

import (
	"context"
	"fmt"
	"log"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"
)

// gossip is memberlist: it tells of agents and of deaths, both of which are taken as hints.
type gossip struct {
	mesh      *Mesh
	transport *transport
	list      *memberlist.Memberlist

	mu      sync.Mutex // leaving and closing do not overlap: memberlist forbids it
	closed  bool
	joining bool // guarded by Mesh.mu
}

// joinAgain is the time between two attempts to tell gossip of a peer that it does not know, as after a partition.
const joinAgain = 5 * time.Second

func newGossip(m *Mesh, packets net.PacketConn) (*gossip, error) {
	g := &gossip{mesh: m, transport: newTransport(m, packets)}
	c := memberlist.DefaultLANConfig()
	c.Name = m.config.ID
	c.Transport = g.transport
	c.BindPort, c.AdvertisePort = m.port, m.port
	c.SecretKey = m.identity.gossipKey
	c.Logger = log.New(&gossipLog{mesh: m}, "", 0)
	c.Events = &gossipEvents{m}
	c.EnableCompression = false // so that nobody decompresses what others wrote
	c.TCPTimeout = 5 * time.Second
	// A death is suspected after one probe that fails, and believed 2 s x log10(nodes) later unless the node has denied it. That is soon, for
	// cores that are all busy; but a peer whose connections are heard stays up.
	c.ProbeInterval = m.timing.probe
	c.ProbeTimeout = m.timing.probe / 2
	c.SuspicionMult = 2
	c.SuspicionMaxTimeoutMult = 2
	c.PushPullInterval = 15 * time.Second
	var err error
	if g.list, err = memberlist.Create(c); err != nil {
		g.transport.Shutdown()
		return nil, fmt.Errorf("mesh: start gossip: %w", err)
	}
	return g, nil
}

// leave tells the others that this agent leaves.
func (g *gossip) leave(ctx context.Context) {
	timeout := time.Second
	if end, ok := ctx.Deadline(); ok {
		timeout = max(min(timeout, time.Until(end)), time.Millisecond)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.list.Leave(timeout) // its error says that nobody has confirmed: there is nothing to be done
	}
}

func (g *gossip) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.list.Shutdown()
}

// greetGossip joins gossip's view with that of peers which are up and which it does not know: at the start, and after a partition, of which
// memberlist does not recover by itself.
func (m *Mesh) greetGossip(now time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gossip.joining || m.leaving || m.closed {
		return
	}
	for _, p := range m.peers {
		if !p.up || p.inGossip || (p.joined > 0 && now-p.joined < joinAgain) {
			continue
		}
		p.joined = now
		m.gossip.joining = true
		addr := p.addr
		m.goroutines.Go(func() {
			if _, err := m.gossip.list.Join([]string{addr}); err != nil {
				m.bounded(level, "gossip join").Err(err).Msg("cannot exchange gossip with an agent")
			}
			m.mu.Lock()
			m.gossip.joining = false
			m.mu.Unlock()
		})
		return
	}
}

// gossipEvents takes memberlist's word. It is called under memberlist's lock.
type gossipEvents struct{ mesh *Mesh }

func (e *gossipEvents) NotifyJoin(n *memberlist.Node) {
	addr := net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port)))
	p := e.mesh.meet(n.Name, addr)
	if p == nil {
		return
	}
	e.mesh.mu.Lock()
	defer e.mesh.mu.Unlock()
	p.dead, p.inGossip = false, true
}

func (e *gossipEvents) NotifyLeave(n *memberlist.Node) {
	e.mesh.mu.Lock()
	defer e.mesh.mu.Unlock()
	if p := e.mesh.peers[n.Name]; p != nil {
		p.dead, p.inGossip = true, false
	}
}

func (e *gossipEvents) NotifyUpdate(*memberlist.Node) {}

// gossipLog writes memberlist's lines into ours, at debug level and a bounded rate.
type gossipLog struct{ mesh *Mesh }

func (l *gossipLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if strings.Contains(text, "Decrypt packet failed") {
		l.mesh.warn("gossip key").Msg("gossip came that this job's key and run ID do not open: another job uses the port, or the key differs, or it is none of an agent")
		return len(line), nil
	}
	if l.mesh.log.GetLevel() > zerolog.DebugLevel {
		return len(line), nil
	}
	_, text, _ = strings.Cut(text, "memberlist: ")
	words := strings.Fields(text)
	l.mesh.bounded(zerolog.DebugLevel, "memberlist "+strings.Join(words[:min(3, len(words))], " ")).Msg("memberlist: " + text)
	return len(line), nil
}
