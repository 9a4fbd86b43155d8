package ddp

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ddprun/ddprun/internal/torch"
)

func init() {
	scenes["sum in shared memory"] = sumShared
	for name, lost := range map[string]func(){"killed": killSelf, "silent": func() { time.Sleep(time.Hour) }} {
		scenes["sharing, then "+name] = func(g Group, report *glooReport) error { return loseSharing(g, report, lost) }
	}
	scenes["sharing, then aborted"] = abortSharing
}

// sharing calls f with the gradients of elements parameters in shared memory.
func sharing(g Group, elements int64, f func(grad torch.Tensor) error) error {
	p, err := NewParams([]Param{{Name: "weight", Shape: []int64{elements}}}, g)
	if err != nil {
		return err
	}
	defer p.Close()
	return f(p.grad)
}

// exampleGrad is a gradient whose sum depends on the order of the additions.
func exampleGrad(rank, i int) float32 { return float32((i%977+1)*(rank*rank+1)) * 1.1e-3 }

// sumShared sums whole, part and empty tensors, and compares with sums in rank order, bit for bit.
func sumShared(g Group, _ *glooReport) error {
	const n = 5003
	return sharing(g, n, func(grad torch.Tensor) error {
		for round := range 3 {
			for _, part := range [][2]int64{{0, n}, {17, 1}, {100, 2}, {3, n - 3}, {0, 0}} {
				lo, hi := part[0], part[0]+part[1]
				got := grad.Float32s()
				for i := range got {
					got[i] = exampleGrad(g.Rank()+round, i)
				}
				if err := torch.Do(func(s *torch.Scope) error { return reduceAndWait(g, s.View(grad, lo, hi-lo)) }); err != nil {
					return err
				}
				for i, x := range got[:n] {
					want := exampleGrad(g.Rank()+round, i)
					if int64(i) >= lo && int64(i) < hi {
						want = exampleGrad(round, i)
						for rank := 1; rank < g.Size(); rank++ {
							want += exampleGrad(rank+round, i)
						}
					}
					if x != want {
						return fmt.Errorf("elements %d to %d, element %d: %v, want %v", lo, hi, i, x, want)
					}
				}
				if err := Barrier(g); err != nil { // before the next part is written
					return err
				}
			}
		}
		return nil
	})
}

func reduceAndWait(g Group, t torch.Tensor) error {
	w, err := g.AllReduce(t)
	if err != nil {
		return err
	}
	return w.Wait()
}

func loseSharing(g Group, report *glooReport, lost func()) error {
	return sharing(g, 1<<20, func(grad torch.Tensor) error {
		if err := reduceAndWait(g, grad); err != nil {
			return err
		}
		if g.Rank() == 1 {
			lost()
		}
		start := time.Now()
		err := reduceAndWait(g, grad)
		report.Seconds = time.Since(start).Seconds()
		if again := reduceAndWait(g, grad); err != nil && again == nil {
			return fmt.Errorf("a sum after a failed one has no error")
		}
		return err
	})
}

// abortSharing is a scene in which the last rank stays away and rank 0 aborts.
func abortSharing(g Group, report *glooReport) error {
	return sharing(g, 1<<20, func(grad torch.Tensor) error {
		if g.Rank() == 0 {
			time.AfterFunc(200*time.Millisecond, g.Abort)
		}
		if g.Rank() == g.Size()-1 {
			time.Sleep(2 * time.Second)
			return nil
		}
		start := time.Now()
		err := reduceAndWait(g, grad)
		report.Seconds = time.Since(start).Seconds()
		return err
	})
}

func TestSharedSums(t *testing.T) {
	t.Setenv(envGroup, "shared")
	for _, c := range []struct {
		scene string
		size  int
	}{{"sum in shared memory", 2}, {"sum in shared memory", 3}, {"sum in shared memory", 4}, {"collectives", 3}, {"train", 2}, {"train", 3}} {
		for rank, r := range play(t, c.scene, c.size, nil) {
			if r == nil || r.Error != "" {
				t.Errorf("%s, rank %d of %d: %+v", c.scene, rank, c.size, r)
			}
		}
	}
}

func TestSharedPeerIsKilled(t *testing.T) {
	t.Setenv(envGroup, "shared")
	for rank, r := range play(t, "sharing, then killed", 3, nil) {
		want := fmt.Sprintf("rank %d of 3: all-reduce failed, a peer is gone or silent", rank)
		if rank != 1 && (r == nil || !strings.Contains(r.Error, want) || r.Seconds > atOnce) {
			t.Errorf("rank %d: %+v", rank, r)
		}
		t.Logf("rank %d: %+v", rank, r)
	}
}

func TestSharedPeerIsSilent(t *testing.T) {
	t.Setenv(envGroup, "shared")
	r := play(t, "sharing, then silent", 2, func(rank int) bool { return rank == 0 })[0]
	if r == nil || !strings.Contains(r.Error, "rank 1 did not answer within") || r.Seconds < 0.9*glooTimeout.Seconds() || r.Seconds > 2*glooTimeout.Seconds() {
		t.Errorf("got %+v, the timeout is %v", r, glooTimeout)
	}
}

func TestSharedAbort(t *testing.T) {
	t.Setenv(envGroup, "shared")
	for rank, r := range play(t, "sharing, then aborted", 3, nil) {
		if rank != 2 && (r == nil || r.Error == "" || r.Seconds > atOnce) {
			t.Errorf("rank %d: got %+v", rank, r)
		}
		t.Logf("rank %d: %+v", rank, r)
	}
}

// Ranks that reduce different parts are told so instead of summing what doesn't belong together.
func TestSharedRanksThatDiffer(t *testing.T) {
	peers := connected(t)
	errs := make([]error, 2)
	var both sync.WaitGroup
	for rank, p := range peers {
		g := &sharedGroup{Group: NewLocal(2, nil)[rank], peers: make([]*peer, 2), timeout: 5 * time.Second}
		g.peers[1-rank] = p
		both.Go(func() { errs[rank] = g.agree(message{kind: ready, at: int64(rank), n: 8}) })
	}
	both.Wait()
	for rank, err := range errs {
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("ready for an all-reduce (8 elements at %d)", 1-rank)) {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
}

// connected returns rank 0's and rank 1's connection to each other.
func connected(t *testing.T) [2]*peer {
	store := newMapStore()
	var ends [2]*peer
	var both sync.WaitGroup
	for rank := range ends {
		both.Go(func() {
			peers, err := meet(rank, 2, store, 5*time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			ends[rank] = peers[1-rank]
			go ends[rank].receive(make(chan int, 1))
		})
	}
	both.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() {
		for _, p := range ends {
			p.conn.Close()
		}
	})
	return ends
}

// A process that knows no token is not taken for a rank, and does not keep the ranks from meeting.
func TestMeetRefusesStrangers(t *testing.T) {
	store := newMapStore()
	var both sync.WaitGroup
	both.Go(func() {
		peers, err := meet(0, 2, store, 10*time.Second)
		if err != nil || peers[1] == nil {
			t.Errorf("rank 0: %v, %v", peers, err)
			return
		}
		peers[1].conn.Close()
	})
	secret, err := store.Get(secretKey(0), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, hello := range []string{"", "x", strings.Repeat("x", tokenBytes+4), string(secret[tokenBytes:]) + "\x00\x00\x00\x00", string(secret[tokenBytes:]) + "\x02\x00\x00\x00"} {
		conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socketName(secret), Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		if hello != "" {
			if _, err := conn.Write([]byte(hello)); err != nil {
				t.Fatal(err)
			}
		}
		conn.Close()
	}
	conn, err := call(secret, 1)
	if err != nil {
		t.Fatal(err)
	}
	both.Wait()
	conn.Close()
}

func TestMeetFails(t *testing.T) {
	start := time.Now()
	if _, err := meet(0, 2, newMapStore(), 300*time.Millisecond); err == nil || !strings.Contains(err.Error(), "1 of 2 ranks did not come") {
		t.Errorf("nobody else comes: %v", err)
	}
	if _, err := meet(1, 2, newMapStore(), 300*time.Millisecond); err == nil || !strings.Contains(err.Error(), "rank 0 did not come") {
		t.Errorf("nobody else comes: %v", err)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %v", took)
	}
}

// The descriptors and mappings of a group are gone when it is closed.
func TestSharedCloseReleases(t *testing.T) {
	before := openFiles(t)
	peers := connected(t)
	var both sync.WaitGroup
	for rank, p := range peers {
		both.Go(func() {
			g := &sharedGroup{Group: NewLocal(2, nil)[rank], peers: make([]*peer, 2), timeout: 5 * time.Second, sums: make(chan *sharedSum), ended: make(chan struct{})}
			g.peers[1-rank] = p
			go g.run()
			grad, err := g.zeros(1 << 16)
			if err != nil {
				t.Error(err)
				return
			}
			if err := reduceAndWait(g, grad); err != nil {
				t.Error(err)
			}
			if _, err := g.zeros(16); err == nil {
				t.Error("zeros twice: no error")
			}
			grad.Free()
			g.Close()
		})
	}
	both.Wait()
	for deadline := time.Now().Add(5 * time.Second); openFiles(t) != before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors are open, %d before", openFiles(t), before)
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(maps), "ddprun-gradients") {
		t.Error("shared memory is still mapped")
	}
}

func openFiles(t *testing.T) int {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
