package pipe

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// TestStoreAgainstAMap runs random operations from concurrent workers over real sockets. Each goroutine has keys of its
// own, whose answers a map foretells, and all share a counter, whose sum is known.
func TestStoreAgainstAMap(t *testing.T) {
	const workers, routines, operations = 3, 4, 300
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	store := NewMemStore()
	var all sync.WaitGroup
	var total int64
	for w := range workers {
		_, worker := connect(t, Start{WorldSize: workers}, Prefix(store, "generation-1/"))
		for r := range routines {
			rng := rand.New(rand.NewPCG(seed, uint64(w*routines+r)))
			total += operations
			all.Go(func() {
				if err := checkAgainstMap(worker.Store(), rng, fmt.Sprintf("%d/%d/", w, r), operations); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	_, worker := connect(t, Start{WorldSize: workers}, Prefix(store, "generation-1/"))
	if n, err := worker.Store().Add("counter", 0); n != total || err != nil {
		t.Fatalf("the shared counter is %d (%v), want %d", n, err, total)
	}
}

// checkAgainstMap does random operations under prefix and compares each answer with a map's.
func checkAgainstMap(s Store, rng *rand.Rand, prefix string, operations int) error {
	model := map[string]string{}
	for range operations {
		if _, err := s.Add("counter", 1); err != nil {
			return err
		}
		key, other := prefix+fmt.Sprint(rng.IntN(4)), prefix+fmt.Sprint(rng.IntN(4))
		want, have := model[key]
		_, haveOther := model[other]
		switch rng.IntN(5) {
		case 0:
			value := fmt.Sprintf("%x\x00\xff", rng.Uint64())
			if err := s.Set(key, []byte(value)); err != nil {
				return err
			}
			model[key] = value
		case 1:
			value, err := s.Get(key, 0)
			if have && (err != nil || string(value) != want) || !have && !errors.Is(err, ErrTimeout) {
				return fmt.Errorf("get %s: %q, %v; want %q, set %v", key, value, err, want, have)
			}
		case 2:
			all, err := s.Check([]string{key, other})
			if err != nil || all != (have && haveOther) {
				return fmt.Errorf("check %s %s: %v, %v", key, other, all, err)
			}
		case 3:
			removed, err := s.Delete(key)
			if err != nil || removed != have {
				return fmt.Errorf("delete %s: %v, %v", key, removed, err)
			}
			delete(model, key)
		case 4:
			err := s.Wait([]string{key, other}, time.Microsecond)
			if have && haveOther && err != nil || !(have && haveOther) && !errors.Is(err, ErrTimeout) {
				return fmt.Errorf("wait %s %s: %v", key, other, err)
			}
		}
	}
	return nil
}

func TestGetBlocksUntilAnotherWorkerSets(t *testing.T) {
	store := NewMemStore()
	_, first := connect(t, Start{WorldSize: 2}, store)
	_, second := connect(t, Start{WorldSize: 2}, store)
	go func() {
		time.Sleep(30 * time.Millisecond)
		second.Store().Set("address", []byte("here"))
	}()
	before := time.Now()
	value, err := first.Store().Get("address", time.Minute)
	if err != nil || string(value) != "here" || time.Since(before) < 20*time.Millisecond {
		t.Fatal(string(value), err, time.Since(before))
	}
	if _, err := first.Store().Get("missing", 30*time.Millisecond); !errors.Is(err, ErrTimeout) {
		t.Fatal(err)
	}
}

func TestStoreErrorsReachTheWorker(t *testing.T) {
	_, worker := connect(t, Start{WorldSize: 1}, NewMemStore())
	worker.Store().Set("k", []byte("text"))
	if _, err := worker.Store().Add("k", 1); err == nil {
		t.Fatal("added to text")
	}
	if err := worker.Store().Set("k", make([]byte, MaxMessageBytes)); err == nil {
		t.Fatal("a value beyond the bound was taken")
	}
	if value, err := worker.Store().Get("k", 0); err != nil || string(value) != "text" {
		t.Fatalf("after refused requests: %q %v", value, err)
	}
}

func TestTooManyWaitingRequestsEndTheLine(t *testing.T) {
	agent, worker := connect(t, Start{WorldSize: 1}, NewMemStore())
	var all sync.WaitGroup
	for range maxWaiting + 1 {
		all.Go(func() { worker.Store().Get("never", time.Minute) })
	}
	all.Wait()
	<-agent.Ended()
	if agent.Report().Fault == nil {
		t.Fatal("no bound on the requests that wait")
	}
}
