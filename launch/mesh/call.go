package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Errors of Call. Whether a call that ended with ErrLost was carried out is not known.
var (
	ErrNotConnected = errors.New("mesh: not connected")
	ErrLost         = errors.New("mesh: the connection broke before the answer came")
	ErrClosed       = errors.New("mesh: closed")
)

// Bounds of the calls of one peer that are being answered at the same time; many of them wait for something.
const (
	maxServed      = 4096
	maxServedBytes = 8 * MaxMessageBytes
)

// Call has a peer answer request by its handle, and returns the answer. An error of the handle comes back as its text. The handle's context
// ends when ctx does. While the connection is being made again, Call waits; ErrNotConnected where the peer is down.
func (m *Mesh) Call(ctx context.Context, to string, request json.RawMessage) (json.RawMessage, error) {
	if to == m.config.ID {
		return m.handle(ctx, to, request)
	}
	c, err := m.outgoing(ctx, to)
	if err != nil {
		return nil, err
	}
	id, reply := c.register()
	defer c.forget(id)
	data, err := encode(frame{Call: &call{ID: id, Body: request}})
	if err != nil {
		return nil, err
	}
	select {
	case c.urgent <- data:
	case <-c.done:
		return nil, fmt.Errorf("%w: %s", ErrLost, to)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case a := <-reply:
		if a.Error != "" {
			return nil, errors.New(a.Error)
		}
		return a.Body, nil
	case <-c.done:
		return nil, fmt.Errorf("%w: %s", ErrLost, to)
	case <-ctx.Done():
		m.spawn(func() { c.sendUrgent(frame{Cancel: id}) })
		return nil, ctx.Err()
	}
}

// sendUrgent waits until f is being written or the connection has ended.
func (c *conn) sendUrgent(f frame) error {
	data, err := encode(f)
	if err != nil {
		return err
	}
	select {
	case c.urgent <- data:
	case <-c.done:
	}
	return nil
}

func (c *conn) register() (uint64, chan answer) {
	reply := make(chan answer, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastID++
	c.calls[c.lastID] = reply
	return c.lastID, reply
}

func (c *conn) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, id)
}

func (c *conn) answered(a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if reply := c.calls[a.ID]; reply != nil {
		reply <- a // has room for one
		delete(c.calls, a.ID)
	}
}

// serveCall answers a call in a goroutine of its own, since it may wait. Too many of them are refused, not left to wait: those that are
// being answered may wait for one that comes later.
func (c *conn) serveCall(q call) {
	ctx, cancel := context.WithCancel(c.ctx)
	c.mu.Lock()
	_, twice := c.served[q.ID]
	full := len(c.served) >= maxServed || c.bytes+len(q.Body) > maxServedBytes
	if !twice && !full {
		c.served[q.ID] = cancel
		c.bytes += len(q.Body)
	}
	c.mu.Unlock()
	if twice || full {
		cancel()
		if full {
			c.sendUrgent(frame{Answer: &answer{ID: q.ID, Error: fmt.Sprintf("agent %s: too many calls at the same time", c.mesh.config.ID)}})
		}
		return
	}
	c.mesh.spawn(func() { // after Close the connection has ended
		defer cancel()
		defer c.servedCall(q)
		body, err := c.mesh.handle(ctx, c.peer.id, q.Body)
		a := answer{ID: q.ID, Body: body}
		if err != nil {
			a = answer{ID: q.ID, Error: textOf(err)}
		}
		if c.ctx.Err() != nil {
			return // nobody can be told
		}
		if err := c.sendUrgent(frame{Answer: &a}); err != nil {
			c.sendUrgent(frame{Answer: &answer{ID: q.ID, Error: textOf(err)}})
		}
	})
}

// servedCall makes room for another one.
func (c *conn) servedCall(q call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.served, q.ID)
	c.bytes -= len(q.Body)
}

func (c *conn) cancelCall(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cancel := c.served[id]; cancel != nil {
		cancel()
	}
}

// textOf is an error's text, never empty and of bounded length.
func textOf(err error) string {
	const most = 64 << 10
	text := err.Error()
	switch {
	case text == "":
		return "failed"
	case len(text) > most:
		return text[:most] + " ... (cut)"
	}
	return text
}
