package mesh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	maxPacketBytes = 2048    // memberlist sends at most 1400 and what encryption adds
	maxStreamBytes = 4 << 20 // one of its streams carries at most all agents, of 1 KiB each
	maxStreams     = 64      // at the same time, from authenticated agents
)

// transport carries memberlist's packets over UDP as they are, and its streams over TLS between agents that have the job's key.
type transport struct {
	mesh     *Mesh
	packets  net.PacketConn
	packetCh chan *memberlist.Packet
	streamCh chan net.Conn
	done     chan struct{}
	reader   sync.WaitGroup
	close    sync.Once

	mu      sync.Mutex
	streams map[*stream]bool
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(m *Mesh, packets net.PacketConn) *transport {
	t := &transport{
		mesh: m, packets: packets, done: make(chan struct{}),
		packetCh: make(chan *memberlist.Packet), streamCh: make(chan net.Conn), streams: map[*stream]bool{},
	}
	t.reader.Go(t.read)
	return t
}

// read hands packets to memberlist, one at a time: what does not fit the kernel's buffer is lost.
func (t *transport) read() {
	buffer := make([]byte, maxPacketBytes+1)
	for {
		n, from, err := t.packets.ReadFrom(buffer)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			t.mesh.warn("gossip read").Err(err).Msg("cannot read gossip")
			select {
			case <-time.After(100 * time.Millisecond):
			case <-t.done:
				return
			}
			continue
		case n == 0 || n > maxPacketBytes:
			continue
		}
		select {
		case t.packetCh <- &memberlist.Packet{Buf: bytes.Clone(buffer[:n]), From: from, Timestamp: time.Now()}:
		case <-t.done:
			return
		}
	}
}

func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.ParseIP(t.mesh.advertised), t.mesh.port, nil
}

func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := net.ResolveUDPAddr("udp", addr) // an IP address: nothing is looked up
	if err != nil {
		return time.Time{}, err
	}
	_, err = t.packets.WriteTo(b, to)
	return time.Now(), err
}

func (t *transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, addr.Addr)
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packetCh }

func (t *transport) StreamCh() <-chan net.Conn { return t.streamCh }

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.mesh.ctx, timeout)
	defer cancel()
	raw, secure, err := t.mesh.dial(ctx, addr, useGossip)
	if err != nil {
		return nil, err
	}
	raw.SetDeadline(time.Time{}) // memberlist sets its own
	return t.track(secure, raw)
}

func (t *transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}

// stream hands a stream of another agent to memberlist.
func (t *transport) stream(secure, raw net.Conn) {
	s, err := t.track(secure, raw)
	if err != nil {
		return
	}
	select {
	case t.streamCh <- s:
	case <-t.done:
		s.Close()
	}
}

// Shutdown is called by memberlist.
func (t *transport) Shutdown() error {
	t.close.Do(func() {
		close(t.done)
		t.packets.Close()
		t.mu.Lock()
		for s := range t.streams {
			s.raw.Close()
		}
		t.mu.Unlock()
		t.reader.Wait()
	})
	return nil
}

// stream is one of memberlist's, of bounded length.
type stream struct {
	net.Conn
	raw       net.Conn
	transport *transport
	left      int // bytes that it may still carry
}

func (t *transport) track(secure, raw net.Conn) (net.Conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.streams) >= maxStreams || t.mesh.ctx.Err() != nil {
		raw.Close()
		return nil, errors.New("too many streams of gossip at the same time")
	}
	s := &stream{Conn: secure, raw: raw, transport: t, left: maxStreamBytes}
	t.streams[s] = true
	return s, nil
}

func (s *stream) Read(p []byte) (int, error) {
	if s.left <= 0 {
		return 0, io.ErrShortBuffer
	}
	n, err := s.Conn.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// Close ends the TCP connection; memberlist's streams say themselves where they end.
func (s *stream) Close() error {
	s.transport.mu.Lock()
	delete(s.transport.streams, s)
	s.transport.mu.Unlock()
	return s.raw.Close()
}
