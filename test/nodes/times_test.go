package nodes

import (
	"fmt"
	"slices"
	"sync"
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
