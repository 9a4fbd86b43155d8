package mesh

import (
	"fmt"
	"testing"
	"time"
)

// manyAgents starts n agents that all join the first, waits until each sees all others, closes one, and waits until all have noticed.
func manyAgents(t *testing.T, n int, configOf func(i int) Config) {
	began := time.Now()
	agents := make([]*agent, n)
	ids := make([]string, n)
	for i := range agents {
		c := configOf(i)
		if n > 32 {
			c.timing = slower(4)
		}
		if i > 0 {
			c.Join = []string{agents[0].Addr()}
		}
		agents[i], ids[i] = start(t, c, nil), c.ID
	}
	started := time.Since(began)
	for i, a := range agents {
		a.until(fmt.Sprintf("sees all %d others", n-1), func() bool { return len(a.up) == n-1 })
		if a.peer(ids[i]).ID != "" {
			t.Fatal("an agent sees itself")
		}
	}
	t.Logf("%d agents: started within %v, all see all others after %v", n, started.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	dead := n / 2
	agents[dead].Close()
	died := time.Now()
	for i, a := range agents {
		if i != dead {
			a.until("has noticed the death", func() bool { return len(a.up) == n-2 })
		}
	}
	t.Logf("%d agents: all have noticed a death after %v", n, time.Since(died).Round(time.Millisecond))
	wrong := 0
	for i, a := range agents {
		for _, e := range a.events() {
			if d, ok := e.(Down); ok && d.ID != ids[dead] && i != dead {
				wrong++
			}
		}
	}
	t.Logf("%d agents: %d times was a living one taken for dead", n, wrong)
}

// slower is the default timing for as many agents in one process as would have a machine each: their beats alone would fill its cores.
func slower(times time.Duration) timing {
	t := defaultTiming
	for _, d := range []*time.Duration{&t.beat, &t.silence, &t.grace, &t.hint, &t.tick, &t.probe} {
		*d *= times
	}
	return t
}

// howMany is the number of agents for a test: few, or many among the long ones.
func howMany(few, many int) int {
	if long {
		return many
	}
	return few
}

func TestManyAgentsOverSockets(t *testing.T) {
	noLeaks(t)
	manyAgents(t, howMany(8, 64), func(i int) Config { return config(fmt.Sprintf("%d-s", i)) })
}

func TestManyAgentsInMemory(t *testing.T) {
	noLeaks(t)
	network := newMemory()
	manyAgents(t, howMany(12, 128), func(i int) Config {
		return network.config(fmt.Sprintf("%d-m", i), fmt.Sprintf("10.0.%d.%d", i/250, 1+i%250))
	})
}
