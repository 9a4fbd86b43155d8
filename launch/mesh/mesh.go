package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// DefaultJoinTimeout stands for a Config.JoinTimeout of 0.
const DefaultJoinTimeout = 10 * time.Minute

// Config says who this agent is and how to find the others.
type Config struct {
	ID    string          // of this agent, never used before: "<node rank>-<random>"
	Hello json.RawMessage // told to every peer, before anything else; at most 32 KiB
	RunID string          // of the job; agents of another one are refused

	// Admit returns why the agent that says hello may not take part (nil: it may). Both sides log the reason. It is called from several
	// goroutines, once a connection.
	Admit func(hello json.RawMessage) error

	// Key is the job's key. Without one the connections are encrypted, but anyone may take part.
	Key []byte

	// Listen is an IP address or the name of an interface; empty: all addresses. Advertise is what others reach this node at: an IP address,
	// the name of an interface, or a host name; empty: found out. A loopback address must be named, it is never found.
	Listen, Advertise string
	Port              int // TCP and UDP; 0: chosen by the kernel

	// Join names the nodes to find others through, as host or host:port (Port otherwise). This node may be among them.
	Join        []string
	JoinTimeout time.Duration // after so long, a warning for names that lead nowhere; they are tried on. 0: DefaultJoinTimeout

	// Resolve is asked for names that Go's own resolver does not know; nil: nobody is.
	Resolve func(ctx context.Context, host string) ([]string, error)

	Logger zerolog.Logger

	network network // nil: sockets
	timing  timing  // zero: the defaults
}

// timing holds the times that tests change.
type timing struct {
	beat     time.Duration // a connection on which nothing was sent for so long carries a beat
	silence  time.Duration // a connection on which nothing came for so long is broken off
	grace    time.Duration // a peer whose connection broke is down if it was not made again in so long
	hint     time.Duration // a peer that gossip believes dead is down if nothing came for so long
	tick     time.Duration // how often these are looked at
	retryMin time.Duration // between two attempts to dial, at first
	retryMax time.Duration // ... and later
	refused  time.Duration // ... to dial one that refuses this agent, or is refused
	forget   time.Duration // a peer that was not connected for so long is forgotten
	probe    time.Duration // memberlist's interval
}

var defaultTiming = timing{
	beat:     500 * time.Millisecond,
	silence:  3 * time.Second,
	grace:    time.Second,
	hint:     2 * time.Second,
	tick:     250 * time.Millisecond,
	retryMin: 100 * time.Millisecond,
	retryMax: 5 * time.Second,
	refused:  15 * time.Second,
	forget:   time.Hour,
	probe:    time.Second,
}

const (
	connectTimeout = 3 * time.Second  // of TCP
	greetTimeout   = 10 * time.Second // from accepting a connection, or beginning to dial it, to the end of its greeting
	maxGreetings   = 4                // TLS connections that are being made at the same time
	maxPeers       = 4096
	inboxEvents    = 64 // room of Events
)

// Handler answers a peer's Call. It may take long; its context ends when the caller's does, or the connection.
type Handler func(ctx context.Context, from string, request json.RawMessage) (json.RawMessage, error)

// Mesh is an agent's end of its connections with all others. It is safe for concurrent use.
type Mesh struct {
	config     Config
	timing     timing
	handle     Handler
	log        zerolog.Logger
	identity   *identity
	network    network
	listener   net.Listener
	advertised string // host
	port       int
	gossip     *gossip
	pending    pending
	greetings  chan struct{} // has a token for each TLS connection that is being made
	quiet      quiet         // for warnings
	details    quiet         // for lines of debugging

	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	goroutines sync.WaitGroup
	events     chan Event
	inbox      chan received
	dirty      chan struct{} // has a token while peers' states are to be told

	mu      sync.Mutex // never held while memberlist is called, which calls back under its own lock
	peers   map[string]*peer
	changed map[*peer]bool // peers whose state may have to be told
	leaving bool
	closed  bool
}

// Start listens, announces this agent and begins to look for others. handle answers their calls. ctx bounds the start alone, which waits
// only where several addresses of this node come into question and no name of Join resolves yet. The mesh lives until Close.
func Start(ctx context.Context, c Config, handle func(ctx context.Context, from string, request json.RawMessage) (json.RawMessage, error)) (*Mesh, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	id, err := newIdentity(c.Key, c.RunID)
	if err != nil {
		return nil, err
	}
	m := &Mesh{
		config: c, timing: c.timing, handle: handle, identity: id, network: c.network,
		log:    c.Logger,
		events: make(chan Event, inboxEvents), inbox: make(chan received), dirty: make(chan struct{}, 1),
		greetings: make(chan struct{}, maxGreetings), peers: map[string]*peer{}, changed: map[*peer]bool{},
	}
	if m.timing == (timing{}) {
		m.timing = defaultTiming
	}
	if m.handle == nil {
		m.handle = func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
			return nil, errors.New("nobody answers here")
		}
	}
	if len(c.Key) == 0 {
		m.log.Warn().Msg("there is no key: connections between nodes are encrypted, but whoever reaches the port may take part")
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	if err := m.open(ctx); err != nil {
		m.Close()
		return nil, err
	}
	m.spawn(m.accept)
	m.spawn(m.tell)
	m.spawn(m.watch)
	m.spawn(m.seek)
	return m, nil
}

// check says what is wrong with the configuration, and fills in defaults.
func (c *Config) check() error {
	switch {
	case c.ID == "" || len(c.ID) > maxIDBytes:
		return fmt.Errorf("mesh: the agent's ID %q is to have 1 to %d bytes", c.ID, maxIDBytes)
	case len(c.Hello) > maxHelloBytes/2:
		return fmt.Errorf("mesh: hello of %d bytes; at most %d are allowed", len(c.Hello), maxHelloBytes/2)
	case c.Port < 0 || c.Port > 65535:
		return fmt.Errorf("mesh: port %d: want 1 to 65535", c.Port)
	}
	if c.JoinTimeout <= 0 {
		c.JoinTimeout = DefaultJoinTimeout
	}
	return nil
}

// open takes the port and starts gossip.
func (m *Mesh) open(ctx context.Context) error {
	host, err := m.listenHost()
	if err != nil {
		return err
	}
	if m.network == nil {
		m.network = sockets{local: host}
	}
	if m.advertised, err = m.chooseAddress(ctx, host); err != nil {
		return err
	}
	var packets net.PacketConn
	m.listener, packets, m.port, err = m.network.listen(host, m.config.Port)
	if err != nil {
		return fmt.Errorf("mesh: listen on %s: %w (another agent on this machine wants a --port of its own)", net.JoinHostPort(host, strconv.Itoa(m.config.Port)), err)
	}
	m.gossip, err = newGossip(m, packets)
	return err
}

// Events gives what happens, in order: for each peer Up, its messages, Down. Who does not read holds the peers back, not this agent's own
// sending. It is closed by Close.
func (m *Mesh) Events() <-chan Event { return m.events }

// Advertised is the host at which others reach this node, without a port.
func (m *Mesh) Advertised() string { return m.advertised }

// Addr is host:port at which others reach this agent.
func (m *Mesh) Addr() string { return net.JoinHostPort(m.advertised, strconv.Itoa(m.port)) }

// Send sends payload to a peer that is up, as Message. It never waits, and what it sends may be lost: with a connection that breaks, or when
// too much waits for a peer that does not read.
func (m *Mesh) Send(to string, payload json.RawMessage) {
	if len(payload) == 0 {
		payload = json.RawMessage("null")
	}
	line, err := encode(frame{Message: payload})
	if err != nil {
		m.warn("send "+to).Err(err).Str("peer", to).Msg("a message was not sent")
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.peers[to]
	if p == nil || !p.up || m.leaving {
		return
	}
	if dropped := p.queue.put(line); dropped > 0 {
		m.warn("queue "+to).Str("peer", to).Int("messages", dropped).Msg("a peer does not read: the oldest messages to it are given up")
	}
}

// Farewell tells the peers and memberlist that this agent leaves in order, after what was sent before. It returns when all that are connected
// have read it, or with ctx's error. Close follows.
func (m *Mesh) Farewell(ctx context.Context) error {
	var open []*conn
	m.mu.Lock()
	m.leaving = true
	for _, p := range m.peers {
		p.queue.leave()
		if p.out != nil {
			open = append(open, p.out)
		}
	}
	m.mu.Unlock()
	left := make(chan struct{})
	go func() {
		defer close(left)
		m.gossip.leave(ctx)
	}()
	for _, c := range open {
		select {
		case <-c.done:
		case <-ctx.Done():
			<-left
			return ctx.Err()
		}
	}
	<-left
	return nil
}

// Close breaks everything off and waits until this package's goroutines are gone (those of memberlist follow within seconds). To the peers it
// is a death, unless Farewell came first.
func (m *Mesh) Close() error {
	m.mu.Lock()
	first := !m.closed
	m.closed = true
	var open []*conn
	for _, p := range m.peers {
		open = append(open, p.conns()...)
	}
	m.mu.Unlock()
	m.cancel()
	if !first {
		m.goroutines.Wait()
		return nil
	}
	if m.listener != nil {
		m.listener.Close()
	}
	m.pending.close()
	for _, c := range open {
		c.end("closed")
	}
	if m.gossip != nil {
		m.gossip.close()
	}
	m.goroutines.Wait()
	close(m.events)
	return nil
}

// spawn runs f in a goroutine that Close waits for. It says whether it does: after Close it does not.
func (m *Mesh) spawn(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.goroutines.Go(f)
	return true
}

// sleep waits, and says whether the mesh is still open.
func (m *Mesh) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-m.ctx.Done():
		return false
	}
}
