package mesh

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// Where all cores are busy nobody is taken for dead: 10 minutes among the long tests.
func TestNoFalseDeathOnBusyCores(t *testing.T) {
	noLeaks(t)
	a, b, c := trio(t, nil)
	lasts := 3 * time.Second
	if long {
		lasts = 10 * time.Minute
	}
	var over atomic.Bool
	for range 2 * runtime.GOMAXPROCS(0) {
		go func() {
			for !over.Load() {
			}
		}()
	}
	time.Sleep(lasts)
	over.Store(true)
	for _, x := range []*agent{a, b, c} {
		x.mu.Lock()
		if len(x.all) != 2 {
			t.Errorf("%s was told %v", x.config.ID, x.all)
		}
		x.mu.Unlock()
	}
}
