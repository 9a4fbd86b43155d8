package ddp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ddprun/ddprun/internal/torch"
)

// The model of these tests: a tied table (embedding and last projection), two linear layers that run in the opposite order of
// their place in the list, and a parameter that nothing uses. Every parameter has a bucket of its own, but the bias, which shares one.
const (
	width, rows     = 512, 520
	testBucketBytes = 1<<20 + 4096
)

var reducerList = []Param{
	{Name: "table", Shape: []int64{rows, width}},
	{Name: "second", Shape: []int64{width, width}},
	{Name: "first", Shape: []int64{width, width}},
	{Name: "bias", Shape: []int64{width}},
	{Name: "unused", Shape: []int64{rows, width}},
}

// backwardOf runs one micro-batch, different for each seed, and adds to p's gradients.
func backwardOf(p *Params, seed uint64, before func()) error {
	return torch.Do(func(s *torch.Scope) error {
		random := rand.New(rand.NewPCG(seed, 1))
		ids, labels := make([]int64, 5), make([]int64, 5)
		for i := range ids {
			ids[i], labels[i] = random.Int64N(rows), random.Int64N(rows)
		}
		w := p.Tensors()
		x := s.EmbeddingSum(w[0], torch.Tensor{}, torch.Tensor{}, s.FromInt64s(ids), torch.Tensor{}, torch.Tensor{}, -1)
		x = s.Linear(x, w[2], w[3])
		x = s.Linear(x, w[1], torch.Tensor{})
		loss := s.LinearCrossEntropy(x, w[0], torch.Tensor{}, s.FromInt64s(labels), 0)
		if before != nil {
			before()
		}
		loss.Backward()
		return nil
	})
}

func initialise(p *Params) {
	for i, s := range p.States() {
		fillNormal(s.Value, uint64(100+i))
		for j := range s.Value {
			s.Value[j] *= 0.05
		}
	}
}

// onRanks runs f once a rank, each on a locked thread of its own, and returns the ranks' errors. It fails the test if that takes
// longer than a hang would.
func onRanks(t *testing.T, groups []Group, f func(g Group) error) []error {
	t.Helper()
	errs := make([]error, len(groups))
	var all sync.WaitGroup
	for r, g := range groups {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			torch.SetThreads(1) // of this OS thread
			errs[r] = f(g)
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		stacks := make([]byte, testBucketBytes)
		t.Fatalf("the ranks hang:\n%s", stacks[:runtime.Stack(stacks, true)])
	}
	return errs
}

// recorder notes the buckets in the order in which they are sent.
type recorder struct {
	Group
	mu   sync.Mutex
	sent []int64 // elements of each
}

func (r *recorder) AllReduce(t torch.Tensor) (Work, error) {
	r.mu.Lock()
	r.sent = append(r.sent, t.Numel())
	r.mu.Unlock()
	return r.Group.AllReduce(t)
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sent)
}

func TestReducerSumsOverRanks(t *testing.T) {
	for size := 1; size <= 4; size++ {
		t.Run(fmt.Sprint(size, " ranks"), func(t *testing.T) {
			// The reference: every rank's passes by themselves, added in rank order as the local group does. Rank 3 has no backward.
			passes := func(rank int) []uint64 { return [][]uint64{{1, 2}, {3}, {4, 5, 6}, {}}[rank] }
			var want []float32
			reference := func(rank int) error {
				p, err := NewParams(reducerList, nil)
				if err != nil {
					return err
				}
				defer p.Close()
				initialise(p)
				for _, seed := range passes(rank) {
					if err := backwardOf(p, seed, nil); err != nil {
						return err
					}
				}
				if rank == 0 {
					want = make([]float32, p.grad.Numel())
				}
				for i, g := range p.grad.Float32s() {
					want[i] += g
				}
				return nil
			}
			if err := onRanks(t, NewLocal(1, nil), func(Group) error {
				for rank := range size {
					if err := reference(rank); err != nil {
						return err
					}
				}
				return nil
			})[0]; err != nil {
				t.Fatal(err)
			}
			live := torch.Live()
			errs := onRanks(t, NewLocal(size, nil), func(g Group) error {
				rec := &recorder{Group: g}
				p, err := NewParams(reducerList, nil)
				if err != nil {
					return err
				}
				defer p.Close()
				initialise(p)
				r, err := NewReducer(p, rec, testBucketBytes)
				if err != nil {
					return err
				}
				defer r.Close()
				for step := range 3 {
					p.ZeroGrad()
					rec.sent = nil
					seeds := passes(g.Rank())
					if len(seeds) == 0 {
						r.Begin()
					}
					for i, seed := range seeds {
						var begin func()
						if i == len(seeds)-1 {
							begin = r.Begin
						}
						if err := backwardOf(p, seed, begin); err != nil {
							return err
						}
					}
					if _, err := r.Finish(); err != nil {
						return err
					}
					if !slices.Equal(p.grad.Float32s(), want) {
						return fmt.Errorf("step %d: the gradient is not the sum of the ranks'", step)
					}
					if g := gradOf(p, 4); slices.ContainsFunc(g, func(x float32) bool { return x != 0 }) {
						return errors.New("the unused parameter has a gradient")
					}
					wantSent := []int64{rows * width, width + width*width, width * width, rows * width}
					if !slices.Equal(rec.sent, wantSent) {
						return fmt.Errorf("sent buckets of %d elements, want %d", rec.sent, wantSent)
					}
				}
				return nil
			})
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			if torch.Live() != live {
				t.Errorf("%d tensors live, %d before", torch.Live(), live)
			}
		})
	}
}

// Without the unused parameter every bucket leaves during backward: nothing waits for Finish.
func TestReducerSendsDuringBackward(t *testing.T) {
	p := newTestParams(t, reducerList[:4])
	rec := &recorder{Group: NewLocal(1, nil)[0]}
	r, err := NewReducer(p, rec, testBucketBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := backwardOf(p, 1, nil); err != nil {
		t.Fatal(err)
	}
	if n := rec.count(); n != 0 {
		t.Fatalf("%d buckets left before Begin", n)
	}
	if err := backwardOf(p, 2, r.Begin); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); rec.count() < len(r.views); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d buckets left before Finish", rec.count(), len(r.views))
		}
	}
	if _, err := r.Finish(); err != nil {
		t.Fatal(err)
	}
}

func TestReducerNamesALateGradient(t *testing.T) {
	p := newTestParams(t, reducerList)
	r, err := NewReducer(p, NewLocal(1, nil)[0], testBucketBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := backwardOf(p, 1, r.Begin); err != nil {
		t.Fatal(err)
	}
	if err := backwardOf(p, 2, nil); err != nil { // after Begin: one pass too many
		t.Fatal(err)
	}
	_, err = r.Finish()
	if err == nil || !strings.Contains(err.Error(), "came after its bucket had left") {
		t.Fatalf("got %v", err)
	}
	if err := backwardOf(p, 1, r.Begin); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Finish(); err != nil {
		t.Errorf("the next step fails too: %v", err)
	}
}

// Whichever collective of whichever rank fails: every rank gets an error, none hangs, nothing is left.
func TestReducerFaults(t *testing.T) {
	live, goroutines := torch.Live(), runtime.NumGoroutine()
	for size := 1; size <= 3; size++ {
		for faulty := range size {
			for seq := range int64(5) { // a broadcast and four buckets
				boom := errors.New("boom")
				groups := NewLocal(size, func(rank int, n int64) error {
					if rank == faulty && n == seq {
						return boom
					}
					return nil
				})
				errs := onRanks(t, groups, func(g Group) error {
					p, err := NewParams(reducerList, nil)
					if err != nil {
						return err
					}
					defer p.Close()
					r, err := NewReducer(p, g, testBucketBytes)
					if err != nil {
						return err
					}
					defer r.Close()
					if err := p.Broadcast(g); err != nil {
						return err
					}
					if err := backwardOf(p, uint64(g.Rank()), r.Begin); err != nil {
						return err
					}
					_, err = r.Finish()
					return err
				})
				for rank, err := range errs {
					if want := map[bool]error{true: boom, false: ErrAborted}[rank == faulty]; !errors.Is(err, want) {
						t.Errorf("%d ranks, collective %d of rank %d fails: rank %d got %v, want %v", size, seq, faulty, rank, err, want)
					}
				}
			}
		}
	}
	if torch.Live() != live {
		t.Errorf("%d tensors live, %d before", torch.Live(), live)
	}
	wantGoroutines(t, goroutines)
}

// A backward pass that fails after Begin: Close gives the step up, and the peers learn of it.
func TestReducerCloseAfterAFailedBackward(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	errs := onRanks(t, NewLocal(2, nil), func(g Group) error {
		p, err := NewParams(reducerList, nil)
		if err != nil {
			return err
		}
		defer p.Close()
		r, err := NewReducer(p, g, testBucketBytes)
		if err != nil {
			return err
		}
		defer r.Close()
		r.Begin()
		if g.Rank() == 0 {
			return errors.New("out of memory")
		}
		if err := backwardOf(p, 1, nil); err != nil {
			return err
		}
		_, err = r.Finish()
		return err
	})
	if errs[0] == nil || !errors.Is(errs[1], ErrAborted) {
		t.Errorf("got %v", errs)
	}
	wantGoroutines(t, goroutines)
}

func wantGoroutines(t *testing.T, want int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), want)
		}
	}
}

func TestReducerPanicsOnWrongOrder(t *testing.T) {
	p := newTestParams(t, testList)
	r, err := NewReducer(p, NewLocal(1, nil)[0], testBucketBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	panics := func(f func()) (did bool) {
		defer func() { did = recover() != nil }()
		f()
		return
	}
	if !panics(func() { r.Finish() }) {
		t.Error("Finish without Begin: no panic")
	}
	r.Begin()
	if !panics(r.Begin) {
		t.Error("Begin twice: no panic")
	}
	if _, err := r.Finish(); err != nil {
		t.Error(err)
	}
}

func TestPlanBuckets(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	for range 300 {
		p := &Params{}
		total := int64(0)
		for range 1 + random.IntN(40) {
			p.list = append(p.list, Param{Name: "x"})
			p.sizes = append(p.sizes, 1+random.Int64N(1<<random.IntN(21)))
		}
		p.offsets = make([]int64, len(p.sizes))
		padded := func(i int) int64 { return (p.sizes[i] + 15) / 16 * 16 }
		for i := len(p.sizes) - 1; i >= 0; i-- {
			p.offsets[i] = total
			total += padded(i)
		}
		bucketBytes := int64(1 << (10 + random.IntN(14)))
		bucketOf, ranges := planBuckets(p, bucketBytes)
		if ranges[0].lo != 0 || ranges[len(ranges)-1].hi != total {
			t.Fatalf("buckets %v do not cover %d elements", ranges, total)
		}
		members := make([]int, len(ranges))
		for i := range p.list {
			b := ranges[bucketOf[i]]
			if p.offsets[i] < b.lo || p.offsets[i]+padded(i) > b.hi {
				t.Fatalf("parameter %d is not in its bucket %v", i, b)
			}
			members[bucketOf[i]]++
		}
		for k, b := range ranges {
			limit := bucketBytes
			if k == 0 {
				limit = 1 << 20
			}
			if members[k] == 0 || members[k] > 1 && (b.hi-b.lo)*4 > limit {
				t.Fatalf("bucket %d has %d parameters and %d bytes, the limit is %d", k, members[k], (b.hi-b.lo)*4, limit)
			}
			if k+1 == len(ranges) {
				continue
			}
			if b.hi != ranges[k+1].lo {
				t.Fatalf("a gap between buckets %v and %v", b, ranges[k+1])
			}
			next := slices.IndexFunc(p.offsets, func(at int64) bool { return at == b.hi })
			if (b.hi-b.lo+padded(next))*4 <= limit {
				t.Fatalf("bucket %d of %d bytes had room for the next parameter", k, (b.hi-b.lo)*4)
			}
		}
	}
}
