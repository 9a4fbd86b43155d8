package mesh

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// inMemory starts agents at 10.0.0.1, 10.0.0.2, ..., which join the first, and waits until all see each other.
func inMemory(t *testing.T, n *memory, ids ...string) []*agent {
	t.Helper()
	var agents []*agent
	for i, id := range ids {
		c := n.config(id, fmt.Sprintf("10.0.0.%d", i+1))
		if i > 0 {
			c.Join = []string{agents[0].Addr()}
		}
		agents = append(agents, start(t, c, nil))
	}
	for i, a := range agents {
		a.sees(slices.Delete(slices.Clone(ids), i, i+1)...)
	}
	return agents
}

func TestPartitionHeals(t *testing.T) {
	t.Parallel()
	n := newMemory()
	agents := inMemory(t, n, "0-a", "1-b", "2-c", "3-d")
	these, those := []string{"10.0.0.1", "10.0.0.2"}, []string{"10.0.0.3", "10.0.0.4"}
	n.part(these, those, true)
	cut := time.Now()
	agents[0].sees("1-b")
	agents[3].sees("2-c")
	t.Logf("a partition was noticed after %v", time.Since(cut))
	n.part(these, those, false)
	mended := time.Now()
	agents[0].sees("1-b", "2-c", "3-d")
	agents[3].sees("0-a", "1-b", "2-c")
	t.Logf("... and healed after %v", time.Since(mended))
}

// A way that works in one direction alone is no connection, for either side.
func TestOneWayLossIsDownOnBothSides(t *testing.T) {
	t.Parallel()
	n := newMemory()
	agents := inMemory(t, n, "0-a", "1-b", "2-c")
	n.cut("10.0.0.1", "10.0.0.2", true)
	agents[0].sees("2-c")
	agents[1].sees("2-c")
	agents[2].sees("0-a", "1-b")
	n.cut("10.0.0.1", "10.0.0.2", false)
	agents[0].sees("1-b", "2-c")
	agents[1].sees("0-a", "2-c")
}

// Who has given a peer up begins anew with it, and so does the peer, however short the break was for it.
func TestDownOnOneSideIsDownOnTheOther(t *testing.T) {
	t.Parallel()
	n := newMemory()
	agents := inMemory(t, n, "0-a", "1-b")
	m := agents[0].Mesh
	m.mu.Lock()
	p := m.peers["1-b"]
	p.downs++
	m.fellLocked(p, "test")
	m.mu.Unlock()
	for i, other := range []string{"1-b", "0-a"} {
		agents[i].until("down and up again", func() bool {
			ups, downs := 0, 0
			for _, e := range agents[i].all {
				switch e.(type) {
				case Up:
					ups++
				case Down:
					downs++
				}
			}
			return ups == 2 && downs == 1
		})
		agents[i].sees(other)
	}
}

// memberlist refuses a name at another address; so names are never used again.
func TestNodeBackUnderItsRankAtAnotherAddress(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"the old one is dead", "the old one is cut off"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			n := newMemory()
			agents := inMemory(t, n, "0-a", "1-b")
			if how == "the old one is dead" {
				agents[1].Close()
			} else {
				n.part([]string{"10.0.0.1", "10.0.0.9"}, []string{"10.0.0.2"}, true)
			}
			again := n.config("1-c", "10.0.0.9")
			again.Join = []string{agents[0].Addr()}
			b := start(t, again, nil)
			agents[0].sees("1-c")
			b.sees("0-a")
			if how == "the old one is cut off" {
				n.part([]string{"10.0.0.1", "10.0.0.9"}, []string{"10.0.0.2"}, false)
				agents[0].sees("1-b", "1-c")
				b.sees("0-a", "1-b")
			}
		})
	}
}

// A reader that sleeps holds its peers back, keeps what it has, and stays up.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	n := newMemory()
	a := start(t, n.config("0-a", "10.0.0.1"), nil)
	second := n.config("1-b", "10.0.0.2")
	second.Join = []string{a.Addr()}
	b := startUnread(t, second, nil)
	a.sees("1-b")
	payload, _ := json.Marshal(strings.Repeat("x", 64<<10))
	for range 2 * maxQueued {
		a.Send("1-b", payload)
	}
	a.logs("does not read")
	time.Sleep(defaultTiming.silence + 2*defaultTiming.grace)
	a.Mesh.mu.Lock()
	q := a.Mesh.peers["1-b"].queue
	a.Mesh.mu.Unlock()
	q.mu.Lock()
	lines, size := len(q.lines), q.bytes
	q.mu.Unlock()
	if lines == 0 || lines > maxQueued || size > maxQueuedBytes {
		t.Fatalf("%d lines of %d bytes wait", lines, size)
	}
	a.sees("1-b")
	for _, e := range a.events() {
		if _, down := e.(Down); down {
			t.Fatal("a reader that sleeps was taken for dead")
		}
	}
	a.Send("1-b", json.RawMessage(`"last"`))
	go b.read()
	b.until("the last message", func() bool { got := messages(b.all, "0-a"); return len(got) > 0 && got[len(got)-1] == `"last"` })
}

func TestNameThatAppearsLate(t *testing.T) {
	t.Parallel()
	a := start(t, config("0-a"), nil)
	tries := make(chan struct{}, 100)
	second := config("1-b")
	second.Join = []string{"node0.invalid:" + fmt.Sprint(a.port)}
	began := time.Now()
	second.Resolve = func(context.Context, string) ([]string, error) {
		tries <- struct{}{}
		if time.Since(began) < time.Second {
			return nil, fmt.Errorf("no such host")
		}
		return []string{"127.0.0.1"}, nil
	}
	b := start(t, second, nil)
	b.sees("0-a")
	if len(tries) < 2 {
		t.Fatalf("%d lookups", len(tries))
	}
}
