package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// trio starts three agents that find each other through the first.
func trio(t *testing.T, handle Handler) (a, b, c *agent) {
	t.Helper()
	a = start(t, config("0-a"), handle)
	second, third := config("1-b"), config("2-c")
	second.Join, third.Join = []string{a.Addr()}, []string{a.Addr()}
	b, c = start(t, second, handle), start(t, third, handle)
	a.sees("1-b", "2-c")
	b.sees("0-a", "2-c")
	c.sees("0-a", "1-b")
	return a, b, c
}

func TestAgentsFindEachOther(t *testing.T) {
	noLeaks(t)
	a, b, _ := trio(t, nil)
	if p := b.peer("0-a"); string(p.Hello) != `{"name":"0-a"}` || p.Addr != a.Addr() {
		t.Fatalf("%+v", p)
	}
	if a.Advertised() != "127.0.0.1" {
		t.Fatal(a.Advertised())
	}
	for i := range 100 {
		a.Send("1-b", json.RawMessage(fmt.Sprint(i)))
	}
	b.until("all messages", func() bool { return len(messages(b.all, "0-a")) == 100 })
	if got := messages(b.events(), "0-a"); !slices.Equal(got[:3], []string{"0", "1", "2"}) || got[99] != "99" {
		t.Fatalf("order: %v", got)
	}
	a.Send("nobody", json.RawMessage(`1`)) // nothing happens
	if err := a.Probe(context.Background(), b.peer("2-c").Addr); err != nil {
		t.Fatal(err)
	}
}

func TestCalls(t *testing.T) {
	noLeaks(t)
	ended := make(chan error, 1)
	waiting := make(chan struct{}, 10)
	handle := func(ctx context.Context, from string, request json.RawMessage) (json.RawMessage, error) {
		switch string(request) {
		case `"fail"`:
			return nil, errors.New("no such key")
		case `"wait"`:
			waiting <- struct{}{}
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		}
		return json.RawMessage(fmt.Sprintf(`{"from":%q,"said":%s}`, from, request)), nil
	}
	a := start(t, config("0-a"), handle)
	second := config("1-b")
	second.Join = []string{a.Addr()}
	b := start(t, second, handle)
	b.sees("0-a")
	ctx := context.Background()
	got, err := b.Call(ctx, "0-a", json.RawMessage(`7`))
	if err != nil || string(got) != `{"from":"1-b","said":7}` {
		t.Fatalf("%s %v", got, err)
	}
	if got, err = b.Call(ctx, "1-b", json.RawMessage(`8`)); err != nil || string(got) != `{"from":"1-b","said":8}` {
		t.Fatalf("a call to itself: %s %v", got, err)
	}
	if _, err = b.Call(ctx, "0-a", json.RawMessage(`"fail"`)); err == nil || err.Error() != "no such key" {
		t.Fatal(err)
	}
	if _, err = b.Call(ctx, "2-c", nil); !errors.Is(err, ErrNotConnected) {
		t.Fatal(err)
	}
	// A call that nobody waits for any more ends on the other side, and holds up no other.
	short, cancel := context.WithCancel(ctx)
	result := make(chan error)
	go func() { _, err := b.Call(short, "0-a", json.RawMessage(`"wait"`)); result <- err }()
	<-waiting
	if _, err := b.Call(ctx, "0-a", json.RawMessage(`9`)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// The end of the agent that answers ends a call.
	go func() { _, err := b.Call(ctx, "0-a", json.RawMessage(`"wait"`)); result <- err }()
	<-waiting
	a.Close()
	if err := <-result; !errors.Is(err, ErrLost) {
		t.Fatal(err)
	}
}

func TestDeathIsDown(t *testing.T) {
	noLeaks(t)
	a, b, c := trio(t, nil)
	b.Close()
	began := time.Now()
	a.sees("2-c")
	c.sees("0-a")
	t.Logf("a death was noticed after %v", time.Since(began))
	for _, e := range a.events() {
		if d, ok := e.(Down); ok && d.Farewell {
			t.Fatal("a death was taken for a farewell")
		}
	}
	if err := a.Probe(context.Background(), b.Addr()); err == nil {
		t.Fatal("the path to a dead agent works")
	}
}

func TestFarewell(t *testing.T) {
	noLeaks(t)
	a, b, c := trio(t, nil)
	b.Send("0-a", json.RawMessage(`"last words"`))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.Farewell(ctx); err != nil {
		t.Fatal(err)
	}
	a.sees("2-c")
	c.sees("0-a")
	if got := messages(a.events(), "1-b"); !slices.Equal(got, []string{`"last words"`}) {
		t.Fatalf("what was said before: %v", got)
	}
	all := a.events()
	if e, ok := all[len(all)-1].(Down); !ok || !e.Farewell {
		t.Fatalf("%+v", all)
	}
	b.Close()
}
