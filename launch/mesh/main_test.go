package mesh

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// long says that the tests which take minutes run too.
var long = os.Getenv("DDPRUN_TEST_ALL") == "1"

var testKey = []byte("0123456789abcdef-of-the-tests")

// patience is how long a test waits for what must happen before it fails.
const patience = 60 * time.Second

// agent is a mesh under test, with what it has told.
type agent struct {
	*Mesh
	t    *testing.T
	log  *logBuffer
	mu   sync.Mutex
	news chan struct{} // has a token when something was told
	all  []Event
	up   map[string]Peer
	done chan struct{}
}

// logBuffer holds the lines of a log.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// config is a configuration for tests, over loopback.
func config(id string) Config {
	return Config{ID: id, RunID: "run", Key: testKey, Advertise: "127.0.0.1", Listen: "127.0.0.1", Hello: json.RawMessage(`{"name":"` + id + `"}`)}
}

// start begins a mesh that is closed at the test's end, and reads its events.
func start(t *testing.T, c Config, handle Handler) *agent {
	t.Helper()
	a := startUnread(t, c, handle)
	go a.read()
	return a
}

// startUnread begins a mesh whose events nobody reads.
func startUnread(t *testing.T, c Config, handle Handler) *agent {
	t.Helper()
	a := &agent{t: t, log: &logBuffer{}, news: make(chan struct{}, 1), up: map[string]Peer{}, done: make(chan struct{})}
	c.Logger = zerolog.New(a.log).Level(zerolog.DebugLevel)
	var err error
	if a.Mesh, err = Start(context.Background(), c, handle); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Close()
		if t.Failed() && testing.Verbose() {
			t.Logf("log of %s:\n%s", c.ID, a.log)
		}
	})
	return a
}

func (a *agent) read() {
	defer close(a.done)
	for e := range a.Events() {
		a.mu.Lock()
		a.all = append(a.all, e)
		switch e := e.(type) {
		case Up:
			if _, twice := a.up[e.ID]; twice {
				a.t.Errorf("%s: %s is up twice", a.config.ID, e.ID)
			}
			a.up[e.ID] = e.Peer
		case Down:
			if _, was := a.up[e.ID]; !was {
				a.t.Errorf("%s: %s is down without having been up", a.config.ID, e.ID)
			}
			delete(a.up, e.ID)
		case Message:
			if _, was := a.up[e.From]; !was {
				a.t.Errorf("%s: a message of %s, which is not up", a.config.ID, e.From)
			}
		}
		a.mu.Unlock()
		select {
		case a.news <- struct{}{}:
		default:
		}
	}
}

// until waits for a state of what was told.
func (a *agent) until(what string, holds func() bool) {
	a.t.Helper()
	limit := time.After(patience)
	if long {
		limit = time.After(4 * patience)
	}
	for {
		a.mu.Lock()
		ok := holds()
		a.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-a.news:
		case <-limit:
			a.t.Fatalf("%s: never %s; told %v", a.config.ID, what, a.told())
		}
	}
}

// sees waits until exactly these peers are up.
func (a *agent) sees(ids ...string) {
	a.t.Helper()
	a.until(fmt.Sprintf("sees %v", ids), func() bool {
		for _, id := range ids {
			if _, ok := a.up[id]; !ok {
				return false
			}
		}
		return len(a.up) == len(ids)
	})
}

func (a *agent) told() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var b strings.Builder
	for _, e := range a.all {
		fmt.Fprintf(&b, "%T%.100v ", e, e)
	}
	return b.String()
}

// events returns what was told so far.
func (a *agent) events() []Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.all)
}

// peer returns a peer that is up.
func (a *agent) peer(id string) Peer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.up[id]
}

// messages returns those among events that have come from a peer.
func messages(events []Event, from string) []string {
	var list []string
	for _, e := range events {
		if m, ok := e.(Message); ok && m.From == from {
			list = append(list, string(m.Payload))
		}
	}
	return list
}

// logs waits until the log has a line that contains all of words.
func (a *agent) logs(words ...string) {
	a.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		for line := range strings.Lines(a.log.String()) {
			all := true
			for _, w := range words {
				all = all && strings.Contains(line, w)
			}
			if all {
				return
			}
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("%s: no line of the log has %q:\n%s", a.config.ID, words, a.log)
		}
	}
}

// noLeaks fails the test if goroutines of this package or of memberlist outlive it.
func noLeaks(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			buffer := make([]byte, 4<<20)
			stacks := string(buffer[:runtime.Stack(buffer, true)])
			var ours []string
			for stack := range strings.SplitSeq(stacks, "\n\n") {
				if (strings.Contains(stack, "launch/mesh.") || strings.Contains(stack, "memberlist.")) && !strings.Contains(stack, "testing.tRunner") &&
					!strings.Contains(stack, "testing.(*T).Run") {
					ours = append(ours, stack)
				}
			}
			if len(ours) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("%d goroutines are left; the first:\n%s", len(ours), ours[0])
				return
			}
		}
	})
}
