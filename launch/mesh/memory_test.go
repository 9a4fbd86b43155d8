package mesh

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// memory is a network in memory whose links can be cut, each direction by itself. What is written into a cut is not lost but held, as TCP
// would send it again; packets are lost.
type memory struct {
	mu      sync.Mutex
	ends    map[string]*memoryListener // by IP:port
	packets map[string]*memoryPackets
	halves  map[*half]bool
	cuts    map[[2]string]bool // from, to
	port    int
	tap     func(packet []byte, from, to string) // sees every packet
}

func newMemory() *memory {
	return &memory{ends: map[string]*memoryListener{}, packets: map[string]*memoryPackets{}, halves: map[*half]bool{}, cuts: map[[2]string]bool{}, port: 1000}
}

// host is the network as the node at ip has it.
func (n *memory) host(ip string) network { return &memoryHost{n, ip} }

// config is a configuration of an agent at ip.
func (n *memory) config(id, ip string) Config {
	c := config(id)
	c.Listen, c.Advertise, c.network = ip, ip, n.host(ip)
	return c
}

// cut cuts or mends the way from one node to another.
func (n *memory) cut(from, to string, cut bool) {
	n.mu.Lock()
	n.cuts[[2]string{from, to}] = cut
	halves := make([]*half, 0, len(n.halves))
	for h := range n.halves {
		halves = append(halves, h)
	}
	n.mu.Unlock()
	for _, h := range halves {
		h.wake()
	}
}

// part cuts or mends both ways between two groups of nodes.
func (n *memory) part(these, those []string, cut bool) {
	for _, a := range these {
		for _, b := range those {
			n.cut(a, b, cut)
			n.cut(b, a, cut)
		}
	}
}

func (n *memory) isCut(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cuts[[2]string{from, to}]
}

type memoryHost struct {
	*memory
	ip string
}

func (h *memoryHost) listen(_ string, port int) (net.Listener, net.PacketConn, int, error) {
	n := h.memory
	n.mu.Lock()
	defer n.mu.Unlock()
	if port == 0 {
		n.port++
		port = n.port
	}
	addr := net.JoinHostPort(h.ip, fmt.Sprint(port))
	if n.ends[addr] != nil {
		return nil, nil, 0, syscall.EADDRINUSE
	}
	l := &memoryListener{net: n, addr: addr, conns: make(chan net.Conn, 1024), done: make(chan struct{})}
	p := &memoryPackets{net: n, ip: h.ip, addr: addr, queue: make(chan memoryPacket, 1024), done: make(chan struct{})}
	n.ends[addr], n.packets[addr] = l, p
	return l, p, port, nil
}

func (h *memoryHost) dial(ctx context.Context, addr string) (net.Conn, error) {
	n := h.memory
	to, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	for n.isCut(h.ip, to) || n.isCut(to, h.ip) {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.ends[addr]
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	n.port++
	away, back := newHalf(n, h.ip, to), newHalf(n, to, h.ip)
	n.halves[away], n.halves[back] = true, true
	mine := &memoryConn{read: back, write: away, local: net.JoinHostPort(h.ip, fmt.Sprint(n.port)), remote: addr}
	select {
	case l.conns <- &memoryConn{read: away, write: back, local: addr, remote: mine.local}:
		return mine, nil
	default:
		return nil, syscall.ECONNREFUSED
	}
}

type memoryListener struct {
	net   *memory
	addr  string
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.ends, l.addr)
		l.net.mu.Unlock()
		close(l.done)
	})
	return nil
}

func (l *memoryListener) Addr() net.Addr { return memoryAddr(l.addr) }

func memoryAddr(text string) net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(text))
}

// half is one direction of a connection.
type half struct {
	net      *memory
	from, to string

	mu           sync.Mutex
	changed      chan struct{} // closed at the next change
	data         []byte
	ended        bool // by the writer
	closed       bool // by the reader
	readBy, sent time.Time
}

func newHalf(n *memory, from, to string) *half {
	return &half{net: n, from: from, to: to, changed: make(chan struct{})}
}

func (h *half) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wakeLocked()
}

func (h *half) wakeLocked() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// wait lets others go on until something changes or the deadline has passed.
func (h *half) wait(deadline time.Time) {
	changed := h.changed
	h.mu.Unlock()
	defer h.mu.Lock()
	if deadline.IsZero() {
		<-changed
		return
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	}
}

func over(deadline time.Time) bool { return !deadline.IsZero() && !time.Now().Before(deadline) }

func (h *half) Read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		cut := h.net.isCut(h.from, h.to)
		switch {
		case h.closed:
			return 0, net.ErrClosed
		case over(h.readBy):
			return 0, os.ErrDeadlineExceeded
		case len(h.data) > 0 && !cut:
			n := copy(p, h.data)
			h.data = h.data[n:]
			h.wakeLocked()
			return n, nil
		case h.ended && !cut:
			return 0, io.EOF
		}
		h.wait(h.readBy)
	}
}

func (h *half) Write(p []byte) (int, error) {
	const room = 64 << 10
	h.mu.Lock()
	defer h.mu.Unlock()
	for done := 0; ; {
		switch {
		case h.ended:
			return done, net.ErrClosed
		case h.closed && !h.net.isCut(h.to, h.from):
			return done, syscall.EPIPE
		case over(h.sent):
			return done, os.ErrDeadlineExceeded
		case len(h.data) < room:
			n := min(room-len(h.data), len(p)-done)
			h.data = append(h.data, p[done:done+n]...)
			done += n
			h.wakeLocked()
			if done == len(p) {
				return done, nil
			}
		default:
			h.wait(h.sent)
		}
	}
}

type memoryConn struct {
	read, write   *half
	local, remote string
}

func (c *memoryConn) Read(p []byte) (int, error)  { return c.read.Read(p) }
func (c *memoryConn) Write(p []byte) (int, error) { return c.write.Write(p) }
func (c *memoryConn) LocalAddr() net.Addr         { return memoryAddr(c.local) }
func (c *memoryConn) RemoteAddr() net.Addr        { return memoryAddr(c.remote) }

func (c *memoryConn) Close() error {
	c.write.mu.Lock()
	c.write.ended = true
	c.write.wakeLocked()
	c.write.mu.Unlock()
	c.read.mu.Lock()
	c.read.closed = true
	c.read.wakeLocked()
	c.read.mu.Unlock()
	n := c.read.net
	n.mu.Lock()
	delete(n.halves, c.read)
	n.mu.Unlock()
	return nil
}

func (c *memoryConn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *memoryConn) SetReadDeadline(t time.Time) error {
	c.read.mu.Lock()
	defer c.read.mu.Unlock()
	c.read.readBy = t
	c.read.wakeLocked()
	return nil
}

func (c *memoryConn) SetWriteDeadline(t time.Time) error {
	c.write.mu.Lock()
	defer c.write.mu.Unlock()
	c.write.sent = t
	c.write.wakeLocked()
	return nil
}

type memoryPacket struct {
	data []byte
	from string
}

type memoryPackets struct {
	net      *memory
	ip, addr string
	queue    chan memoryPacket
	done     chan struct{}
	once     sync.Once
}

func (p *memoryPackets) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case packet := <-p.queue:
		return copy(b, packet.data), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(packet.from)), nil
	case <-p.done:
		return 0, nil, net.ErrClosed
	}
}

func (p *memoryPackets) WriteTo(b []byte, addr net.Addr) (int, error) {
	to := addr.(*net.UDPAddr)
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	if p.net.tap != nil {
		p.net.tap(slices.Clone(b), p.addr, addr.String())
	}
	target := p.net.packets[addr.String()]
	if target != nil && !p.net.cuts[[2]string{p.ip, to.IP.String()}] {
		select {
		case target.queue <- memoryPacket{slices.Clone(b), p.addr}:
		default: // no room: lost
		}
	}
	return len(b), nil
}

func (p *memoryPackets) Close() error {
	p.once.Do(func() {
		p.net.mu.Lock()
		delete(p.net.packets, p.addr)
		p.net.mu.Unlock()
		close(p.done)
	})
	return nil
}

func (p *memoryPackets) LocalAddr() net.Addr              { return memoryAddr(p.addr) }
func (p *memoryPackets) SetDeadline(time.Time) error      { return nil }
func (p *memoryPackets) SetReadDeadline(time.Time) error  { return nil }
func (p *memoryPackets) SetWriteDeadline(time.Time) error { return nil }
