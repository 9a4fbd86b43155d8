package nodes

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// timesTable is how long things took, by fault and by what.
type timesTable struct {
	mu    sync.Mutex
	names []string
	took  map[[2]string][]time.Duration
}

var times timesTable

func (t *timesTable) add(name, what string, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(t.names, name) {
		t.names = append(t.names, name)
	}
	if t.took == nil {
		t.took = map[[2]string][]time.Duration{}
	}
	t.took[[2]string{name, what}] = append(t.took[[2]string{name, what}], took)
}

// print prints a table as in docs/benchmarks.md.
func (t *timesTable) print() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.names) == 0 {
		return
	}
	fmt.Println("| fault | times | to detection: median, 99th percentile | to the next step: median, 99th percentile |\n|---|---|---|---|")
	for _, name := range t.names {
		fmt.Printf("| %s | %d | %s | %s |\n", name, max(len(t.took[[2]string{name, "detection"}]), len(t.took[[2]string{name, "next step"}])),
			percentiles(t.took[[2]string{name, "detection"}]), percentiles(t.took[[2]string{name, "next step"}]))
	}
}

func percentiles(all []time.Duration) string {
	if len(all) == 0 {
		return "-"
	}
	slices.Sort(all)
	at := func(share float64) float64 { return all[min(int(share*float64(len(all))), len(all)-1)].Seconds() }
	return fmt.Sprintf("%.2f s, %.2f s", at(0.5), at(0.99))
}

// How long it takes from a fault to its detection and to the next step: one fault after the other in a run that does not end. DDPRUN_NODES_TIMES says how many of each.
func TestTimes(t *testing.T) {
	n := number("DDPRUN_NODES_TIMES", 0)
	if n == 0 {
		t.Skip("DDPRUN_NODES_TIMES=50 runs it, for half an hour")
	}
	for _, f := range []struct {
		name   string
		strike func(m *match) (heal func())
	}{
		{"worker killed", func(m *match) func() {
			workers := m.now[m.draw.IntN(3)].host.processes("ddprun-worker")
			syscall.Kill(workers[m.draw.IntN(len(workers))], syscall.SIGKILL)
			return func() {}
		}},
		{"agent killed, and started again", func(m *match) func() {
			a := m.victim(false)
			a.signal(syscall.SIGKILL)
			return func() { m.again(a.host, a.rank) }
		}},
		{"coordinator killed, and started again", func(m *match) func() {
			a := m.victim(true)
			a.signal(syscall.SIGKILL)
			return func() { m.again(a.host, a.rank) }
		}},
		{"node cut off for 5 s", func(m *match) func() {
			h := m.victim(false).host
			h.cut()
			return func() {
				time.Sleep(5 * time.Second)
				h.plug()
			}
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			r := newTraining(t, newCluster(t, 3), settings{"max_steps": int64(10000000), "eval_steps": 10000000, "sample_log": false})
			r.flags = []string{"--max-restarts", "1000000"}
			m := &match{training: r, draw: rand.New(rand.NewPCG(seed, 0)), place: map[int]*host{}, now: map[int]*agent{}}
			for rank, h := range r.hosts {
				m.again(h, rank)
			}
			step := int64(0)
			for range n {
				r.inSteps(step + 30) // with a newer checkpoint
				struck := time.Now()
				f.strike(m)()
				var detection, next time.Duration
				r.eventually("the next step", func() bool {
					detection, next = r.took(struck)
					return next > 0
				})
				times.add(f.name, "next step", next)
				if detection > 0 {
					times.add(f.name, "detection", detection)
				}
				step = r.step()
			}
			for _, a := range r.agents {
				if !a.ended() {
					a.signal(syscall.SIGUSR1)
				}
			}
		})
	}
	times.print()
}
