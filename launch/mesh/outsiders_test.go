package mesh

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// pairOver starts two agents over sockets that see each other, and returns the first one's address.
func pairOver(t *testing.T) (a, b *agent) {
	t.Helper()
	return pairWith(t, config("0-a"))
}

// pairWith is pairOver with a configuration of the first agent.
func pairWith(t *testing.T, first Config) (a, b *agent) {
	t.Helper()
	a = start(t, first, nil)
	second := config("1-b")
	second.Join = []string{a.Addr()}
	b = start(t, second, nil)
	a.sees("1-b")
	b.sees("0-a")
	return a, b
}

// undisturbed fails the test if the two have lost each other or cannot talk.
func undisturbed(t *testing.T, a, b *agent) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := b.Call(ctx, "0-a", nil); err == nil || err.Error() != "nobody answers here" {
		t.Fatalf("a call meanwhile: %v", err)
	}
	for _, x := range []*agent{a, b} {
		x.mu.Lock()
		if len(x.all) != 1 {
			t.Errorf("%s was told %v", x.config.ID, x.all)
		}
		x.mu.Unlock()
	}
}

// warnings counts the lines that people see.
func (a *agent) warnings() int { return strings.Count(a.log.String(), `"level":"warn"`) }

func TestGarbageOnBothPorts(t *testing.T) {
	noLeaks(t)
	a, b := pairOver(t)
	random := rand.New(rand.NewPCG(1, 2))
	packets, err := net.Dial("udp", a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	for i := range 2000 {
		data := make([]byte, random.IntN(1600)+1)
		for j := range data {
			data[j] = byte(random.Uint32())
		}
		if i%5 == 0 {
			data[0] = 244 // a label of memberlist
		}
		packets.Write(data)
		if i%20 == 0 {
			conn, err := net.Dial("tcp", a.Addr())
			if err != nil {
				t.Fatal(err)
			}
			conn.Write(data)
			conn.Close()
		}
	}
	a.logs("gossip came that")
	a.logs("no agent's")
	undisturbed(t, a, b)
	if n := a.warnings(); n > quietBurst {
		t.Errorf("%d lines", n)
	}
}

// A flood of connections that say nothing neither fills the memory nor keeps an agent out.
func TestFloodOfConnections(t *testing.T) {
	noLeaks(t)
	a, b := pairOver(t)
	before := runtime.NumGoroutine()
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for i := range 4 * maxPending {
		conn, err := net.Dial("tcp", a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
		if i%2 == 0 {
			conn.Write([]byte{22, 3, 1, 2, 0, 1}) // a ClientHello begins, and does not go on
		}
	}
	a.logs("the oldest are closed")
	if grown := runtime.NumGoroutine() - before; grown > 2*maxPending {
		t.Errorf("%d goroutines for %d connections", grown, len(open))
	}
	third := config("2-c")
	third.Join = []string{a.Addr()}
	c := start(t, third, nil)
	c.sees("0-a", "1-b")
	a.sees("1-b", "2-c")
	if n := a.warnings(); n > quietBurst {
		t.Errorf("%d lines", n)
	}
	_ = b
}

// A flood of agents with another key, of another run, or with another configuration, and of gossip's joins without a key, is refused with some lines of log.
func TestFloodOfJoins(t *testing.T) {
	for _, c := range []struct {
		name, key, run, hello string
		words                 string   // of the log
		uses                  []string // of connections; the others are served to whoever has the key
	}{
		{"another key", "another key of the same job", "run", `{}`, "another key", []string{useControl, useGossip, useEcho}},
		{"another run", string(testKey), "other", `{}`, "another run", []string{useControl}},
		{"another configuration", string(testKey), "run", `{"name":"stranger"}`, "a stranger", []string{useControl}},
	} {
		t.Run(c.name, func(t *testing.T) {
			noLeaks(t)
			first := config("0-a")
			first.Admit = func(hello json.RawMessage) error {
				if strings.Contains(string(hello), "stranger") {
					return errors.New("a stranger")
				}
				return nil
			}
			a, b := pairWith(t, first)
			other, err := newIdentity([]byte(c.key), c.run)
			if err != nil {
				t.Fatal(err)
			}
			var flood sync.WaitGroup
			for range 8 {
				flood.Go(func() {
					for i := range 50 {
						conn, err := net.Dial("tcp", a.Addr())
						if err != nil {
							continue
						}
						config := other.config(c.uses[i%len(c.uses)])
						config.VerifyConnection = nil // it takes the agent's certificate and goes on
						secure := tls.Client(conn, config)
						fmt.Fprintf(secure, `{"hello":{"protocol":1,"id":"9-%d","run_id":"%s","address":"127.0.0.1:9","hello":%s}}`+"\n", i, c.run, c.hello)
						io.Copy(io.Discard, secure)
						conn.Close()
					}
				})
			}
			flood.Wait()
			a.logs(c.words)
			undisturbed(t, a, b)
			a.Mesh.mu.Lock()
			if len(a.peers) != 1 {
				t.Errorf("%d agents are known", len(a.peers))
			}
			a.Mesh.mu.Unlock()
			if n := a.warnings(); n > quietBurst {
				t.Errorf("%d lines", n)
			}
		})
	}
}

// Who has the key may be faulty: its lines are bounded too.
func TestEndlessLines(t *testing.T) {
	noLeaks(t)
	a, b := pairOver(t)
	raw, secure, err := b.dial(context.Background(), a.Addr(), useControl)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	chunk := bytes.Repeat([]byte("x"), 1<<10)
	written := 0
	for written < 1<<20 {
		n, err := secure.Write(chunk)
		written += n
		if err != nil {
			break
		}
	}
	if written >= 1<<20 {
		raw.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := secure.Read(chunk); err == nil {
			t.Fatal("a hello without an end was answered")
		}
	}
	a.logs("message of more than")
	undisturbed(t, a, b)
}

// Gossip's packets can be replayed. They are hints: nobody comes up or goes down for them.
func TestReplayedGossipChangesNothing(t *testing.T) {
	t.Parallel()
	n := newMemory()
	type sent struct {
		data     []byte
		from, to string
	}
	var all []sent
	n.tap = func(data []byte, from, to string) { all = append(all, sent{data, from, to}) }
	agents := inMemory(t, n, "0-a", "1-b", "2-c")
	agents[2].Close() // so that there are words of a death and of a life to be replayed
	agents[0].sees("1-b")
	time.Sleep(5 * time.Second)
	n.mu.Lock()
	n.tap = nil
	recorded := slices.Clone(all)
	n.mu.Unlock()
	told := len(agents[0].events())
	for range 3 {
		for _, p := range recorded {
			n.mu.Lock()
			for _, target := range n.packets { // to everybody, whomever they were meant for
				select {
				case target.queue <- memoryPacket{p.data, p.from}:
				default:
				}
			}
			n.mu.Unlock()
			time.Sleep(100 * time.Microsecond)
		}
	}
	time.Sleep(3 * time.Second)
	agents[0].mu.Lock()
	defer agents[0].mu.Unlock()
	if len(recorded) < 20 || len(agents[0].all) != told || len(agents[0].up) != 1 {
		t.Fatalf("%d packets were replayed, and then: %v", len(recorded), agents[0].all[told:])
	}
}

func TestPendingEvictsTheOldest(t *testing.T) {
	var p pending
	var conns []net.Conn
	for range maxPending + 1 {
		here, there := net.Pipe()
		defer there.Close()
		conns = append(conns, here)
		p.add(here)
	}
	if _, err := conns[0].Write([]byte{1}); err != io.ErrClosedPipe {
		t.Fatalf("the oldest is open: %v", err)
	}
	if p.conns.Len() != maxPending {
		t.Fatal(p.conns.Len())
	}
	p.close()
	late, other := net.Pipe()
	defer other.Close()
	p.add(late)
	if _, err := late.Write([]byte{1}); err != io.ErrClosedPipe {
		t.Fatal("a connection is taken after the end")
	}
}

func TestQuietBoundsLines(t *testing.T) {
	var q quiet
	now := time.Now()
	lines := 0
	for i := range 10000 {
		if _, ok := q.allow(fmt.Sprint(i%1000), now); ok {
			lines++
		}
	}
	if lines != quietBurst || len(q.things) > quietThings {
		t.Fatalf("%d lines, %d things", lines, len(q.things))
	}
	kept, ok := q.allow("new", now.Add(quietInterval))
	if !ok || kept == 0 {
		t.Fatalf("after a while: %v, %d kept back", ok, kept)
	}
	if _, ok := q.allow("new", now.Add(quietInterval+time.Second)); ok {
		t.Fatal("the same thing at once")
	}
}
