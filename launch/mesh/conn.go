package mesh

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// base is where this process's monotonic times count from.
var base = time.Now()

func monotonic() time.Duration { return time.Since(base) }

// heardConn notes when a byte came.
type heardConn struct {
	net.Conn
	heard atomic.Int64 // monotonic
}

func (c *heardConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(int64(monotonic()))
	}
	return n, err
}

// conn is one authenticated connection with a peer, after the greeting. Messages and calls go over the one that this agent has dialled,
// answers over the one that it has taken. Both ends beat, so that each hears the other.
type conn struct {
	mesh     *Mesh
	peer     *peer
	outgoing bool
	raw      *heardConn
	tls      *tls.Conn
	lines    *lineReader
	first    []byte      // what is written before anything else
	urgent   chan []byte // calls and answers for the writer
	done     chan struct{}
	ctx      context.Context // ends with the connection
	cancel   context.CancelFunc

	doubted bool        // nothing was heard for too long, when it was last looked at; of the goroutine that looks
	held    atomic.Bool // the reader waits for whoever reads Events: silence says nothing

	mu     sync.Mutex
	reason string                        // why it ended
	calls  map[uint64]chan answer        // outgoing: those that wait
	served map[uint64]context.CancelFunc // incoming: those that are being answered
	bytes  int                           // of the requests in served
	lastID uint64
}

func newConn(m *Mesh, p *peer, raw *heardConn, secure *tls.Conn, lines *lineReader, outgoing bool) *conn {
	ctx, cancel := context.WithCancel(m.ctx)
	lines.limit = maxFrameBytes
	return &conn{
		mesh: m, peer: p, outgoing: outgoing, raw: raw, tls: secure, lines: lines,
		urgent: make(chan []byte), done: make(chan struct{}), ctx: ctx, cancel: cancel,
		calls: map[uint64]chan answer{}, served: map[uint64]context.CancelFunc{},
	}
}

// end breaks the connection off. The first reason counts.
func (c *conn) end(reason string) {
	c.mu.Lock()
	first := c.reason == ""
	if first {
		c.reason = reason
	}
	c.mu.Unlock()
	if first {
		c.cancel()
		close(c.done)
		c.raw.Close() // not the TLS connection, whose alert would wait for a peer that does not read
	}
}

// serve runs the connection until it ends.
func (c *conn) serve() {
	var writer sync.WaitGroup
	writer.Go(c.write)
	c.end(c.read())
	writer.Wait()
	c.mesh.lost(c)
}

// read takes lines until the connection ends, and says why it did.
func (c *conn) read() string {
	for {
		f, err := c.lines.next()
		if err != nil {
			return c.mesh.whyEnded(err)
		}
		switch {
		case f.Message != nil:
			c.held.Store(true)
			c.mesh.deliver(c, f.Message)
			c.raw.heard.Store(int64(monotonic()))
			c.held.Store(false)
		case f.Call != nil:
			c.serveCall(*f.Call)
		case f.Answer != nil:
			c.answered(*f.Answer)
		case f.Cancel != 0:
			c.cancelCall(f.Cancel)
		case f.Bye:
			c.mesh.farewell(c.peer)
			return "it said farewell"
		case f.Refused != "":
			c.mesh.refusedBy(c.peer.id, c.peer.addr, f.Refused)
			return "it refuses this agent: " + f.Refused
		}
	}
}

// write sends what there is to send, and a beat where there was nothing.
func (c *conn) write() {
	if len(c.first) > 0 {
		if _, err := c.tls.Write(c.first); err != nil {
			c.end(c.mesh.whyEnded(err))
			return
		}
	}
	beat := time.NewTimer(c.mesh.timing.beat)
	defer beat.Stop()
	var queued <-chan struct{}
	if c.outgoing {
		queued = c.peer.queue.filled
	}
	for {
		var data []byte
		bye := false
		select {
		case data = <-c.urgent:
		case <-queued:
			data, bye = c.peer.queue.take()
		case <-beat.C:
			data = beatLine
		case <-c.done:
			return
		}
		if len(data) > 0 {
			if _, err := c.tls.Write(data); err != nil {
				c.end(c.mesh.whyEnded(err))
				return
			}
		}
		if bye {
			queued = nil // the other side ends the connection: that is the sign that it has read all
		}
		beat.Reset(c.mesh.timing.beat)
	}
}

// silent says for how long no byte has come.
func (c *conn) silent(now time.Duration) time.Duration {
	if c.held.Load() {
		return 0
	}
	return now - time.Duration(c.raw.heard.Load())
}

// whyEnded puts the end of a connection into words.
func (m *Mesh) whyEnded(err error) string {
	switch {
	case errors.Is(err, net.ErrClosed):
		return "closed"
	case refusedKey(err):
		return "it refuses this agent's key: the job's key is another one there, or there is none here"
	}
	return err.Error()
}

// level is that of lines about peers that come and go: the driver tells people.
const level = zerolog.DebugLevel
