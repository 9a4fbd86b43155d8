package mesh

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"time"
)

// echoBytes is what travels to and fro in a Probe: more than one packet, of large frames too.
const echoBytes = 16 << 10

// Probe tries the path to another agent's port and back, on a new connection, with more than one packet each way. addr is its Peer.Addr.
func (m *Mesh) Probe(ctx context.Context, addr string) error {
	raw, secure, err := m.dial(ctx, addr, useEcho)
	if err != nil {
		return fmt.Errorf("path from %s to %s: %w", m.advertised, addr, err)
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Now()) })
	defer stop()
	sent, back := make([]byte, echoBytes), make([]byte, echoBytes)
	rand.Read(sent)
	go secure.Write(sent) // ends with the deadline or the answer
	if _, err := io.ReadFull(secure, back); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("path from %s to %s: %w", m.advertised, addr, err)
	}
	if !bytes.Equal(sent, back) {
		return fmt.Errorf("path from %s to %s: other bytes came back than were sent", m.advertised, addr)
	}
	return nil
}

// echo is the other side of Probe. Its deadline is that of the greeting.
func echo(secure *tls.Conn) {
	data := make([]byte, echoBytes)
	if _, err := io.ReadFull(secure, data); err == nil {
		secure.Write(data)
	}
}
