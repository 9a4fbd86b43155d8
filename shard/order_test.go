package shard

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"sort"
	"testing"
)

func newOrder(t testing.TB, cfg OrderConfig) *Order {
	t.Helper()
	o, err := NewOrder(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// globalBatch is what the ranks of a world take together in a step, in lane order.
func globalBatch(o *Order, epoch, step int64, world int) [][]int64 {
	var all [][]int64
	for rank := range world {
		first, end := AssignLanes(o.cfg.Lanes, world, rank)
		for lane := first; lane < end; lane++ {
			all = append(all, o.MicroBatch(epoch, step, lane, nil))
		}
	}
	return all
}

// TestOrderProperty: for random sizes, seeds, lanes and batch sizes, and a world
// that changes at random steps, every sample comes exactly once an epoch, and the
// global batch is the one that any other world takes.
func TestOrderProperty(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 60 {
		cfg := OrderConfig{Lanes: 1 + r.IntN(24), BatchSize: 1 + r.IntN(70), Seed: r.Uint64(), Shuffle: r.IntN(5) > 0}
		switch r.IntN(3) {
		case 0:
			cfg.Samples = 1 + r.Int64N(40) // often fewer than lanes
		case 1:
			cfg.Samples = 1 + r.Int64N(3000)
		case 2:
			cfg.Samples = 16000 + r.Int64N(40000) // blocks of one to four
		}
		checkEpoch(t, r, cfg)
	}
}

func checkEpoch(t *testing.T, r *rand.Rand, cfg OrderConfig) {
	t.Helper()
	o, other := newOrder(t, cfg), newOrder(t, cfg)
	epoch, world := r.Int64N(5), 1+r.IntN(17)
	seen := make([]int, cfg.Samples)
	for step := range o.StepsPerEpoch() {
		if r.IntN(4) == 0 {
			world = 1 + r.IntN(17)
		}
		batch := globalBatch(o, epoch, step, world)
		if len(batch) != cfg.Lanes {
			t.Fatalf("%+v: %d ranks hold %d lanes", cfg, world, len(batch))
		}
		for lane, samples := range batch {
			if len(samples) > cfg.BatchSize {
				t.Fatalf("%+v: a micro-batch of %d", cfg, len(samples))
			}
			if last := step == o.StepsPerEpoch()-1; !last && len(samples) != cfg.BatchSize {
				t.Fatalf("%+v: step %d, lane %d: %d samples", cfg, step, lane, len(samples))
			}
			for _, sample := range samples {
				seen[sample]++
			}
		}
		if r.IntN(8) == 0 {
			// A run that begins here, at another world size, takes the same.
			if got := globalBatch(other, epoch, step, 1+r.IntN(17)); !reflect.DeepEqual(got, batch) {
				t.Fatalf("%+v: step %d differs with the world", cfg, step)
			}
		}
	}
	for sample, n := range seen {
		if n != 1 {
			t.Fatalf("%+v: sample %d came %d times", cfg, sample, n)
		}
	}
}

func TestOrderDropLast(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 50 {
		cfg := OrderConfig{Samples: 500 + r.Int64N(3000), Lanes: 1 + r.IntN(10), BatchSize: 1 + r.IntN(40), Shuffle: true, DropLast: true}
		o := newOrder(t, cfg)
		seen := map[int64]bool{}
		for step := range o.StepsPerEpoch() {
			for _, samples := range globalBatch(o, 0, step, 3) {
				if len(samples) != cfg.BatchSize {
					t.Fatalf("%+v: step %d of %d has %d samples", cfg, step, o.StepsPerEpoch(), len(samples))
				}
				for _, sample := range samples {
					if seen[sample] {
						t.Fatalf("%+v: sample %d twice", cfg, sample)
					}
					seen[sample] = true
				}
			}
		}
		if missing := cfg.Samples - int64(len(seen)); missing >= int64(cfg.Lanes*(cfg.BatchSize+1)) {
			t.Errorf("%+v: %d samples dropped", cfg, missing)
		}
	}
}

func TestOrderRefuses(t *testing.T) {
	for _, cfg := range []OrderConfig{
		{Samples: 0, Lanes: 1, BatchSize: 1}, {Samples: 1, Lanes: 0, BatchSize: 1}, {Samples: 1, Lanes: 1, BatchSize: -1},
		{Samples: 1 << 60, Lanes: 1, BatchSize: 1},
	} {
		_, err := NewOrder(cfg)
		wantError(t, err, "shard:")
	}
	_, err := NewOrder(OrderConfig{Samples: 10, Lanes: 4, BatchSize: 8, DropLast: true})
	wantError(t, err, "10 samples", "dataloader_drop_last")
}

// positions returns the step-and-lane position of each sample, as the loss curve
// sees it: step first.
func positions(o *Order, epoch int64) []float64 {
	at := make([]float64, o.cfg.Samples)
	next := 0.0
	for step := range o.StepsPerEpoch() {
		for _, samples := range globalBatch(o, epoch, step, 1) {
			for _, sample := range samples {
				at[sample] = next
				next++
			}
		}
	}
	return at
}

// spearman is the rank correlation of two permutations of 0..n-1.
func spearman(a, b []float64) float64 {
	n := float64(len(a))
	sum := 0.0
	for i := range a {
		sum += (a[i] - b[i]) * (a[i] - b[i])
	}
	return 1 - 6*sum/(n*(n*n-1))
}

func TestEpochsAreUncorrelated(t *testing.T) {
	for _, samples := range []int64{15000, 100_003} {
		for _, lanes := range []int{1, 8} {
			corpus := make([]float64, samples)
			for i := range corpus {
				corpus[i] = float64(i)
			}
			for seed := range uint64(3) {
				o := newOrder(t, OrderConfig{Samples: samples, Lanes: lanes, BatchSize: 8, Seed: seed, Shuffle: true})
				first, second := positions(o, 0), positions(o, 1)
				for what, rho := range map[string]float64{
					"two epochs": spearman(first, second), "corpus and epoch": spearman(corpus, first),
				} {
					if math.Abs(rho) > 0.05 {
						t.Errorf("%d samples, %d lanes, seed %d: %s correlate by %.3f", samples, lanes, seed, what, rho)
					}
				}
			}
		}
	}
}

func TestOrderDependsOnSeedAndEpoch(t *testing.T) {
	cfg := OrderConfig{Samples: 5000, Lanes: 2, BatchSize: 16, Seed: 1, Shuffle: true}
	a := newOrder(t, cfg)
	cfg.Seed = 2
	b := newOrder(t, cfg)
	if reflect.DeepEqual(globalBatch(a, 0, 0, 1), globalBatch(b, 0, 0, 1)) {
		t.Error("two seeds give the same batch")
	}
	if reflect.DeepEqual(globalBatch(a, 0, 0, 1), globalBatch(a, 1, 0, 1)) {
		t.Error("two epochs give the same batch")
	}
}

// TestOrderStays pins the arithmetic: a change of it would change what every resumed
// run sees.
func TestOrderStays(t *testing.T) {
	for want, cfg := range map[string]OrderConfig{
		"[[30 20 22 1] [75 41 29 65] [27 46 90 18]]": {Samples: 100, Lanes: 3, BatchSize: 4, Seed: 42, Shuffle: true},
		"[[6927847 20428724 21837743 11209176] [7761909 1171254 27664548 29093057] [27891498 17716072 18253745 19753929]]": {Samples: 30_000_001, Lanes: 3, BatchSize: 4, Seed: 42, Shuffle: true},
		"[[0 1 2 3] [34 35 36 37] [67 68 69 70]]": {Samples: 100, Lanes: 3, BatchSize: 4, Seed: 42},
	} {
		if got := fmt.Sprint(globalBatch(newOrder(t, cfg), 0, 0, 1)); got != want {
			t.Errorf("%+v: got %s, want %s", cfg, got, want)
		}
	}
}

func TestBlockSize(t *testing.T) {
	for _, test := range []struct {
		samples int64
		lanes   int
		want    int64
	}{{1, 1, 1}, {16383, 1, 1}, {100_000, 1, 6}, {100_000_000, 1, 1024}, {100_000_000, 8192, 190}, {1 << 40, 1, 1024}} {
		if got := blockSize(test.samples, test.lanes); got != test.want {
			t.Errorf("%d samples, %d lanes: blocks of %d, want %d", test.samples, test.lanes, got, test.want)
		}
	}
}

// TestSequence holds the sequence of blocks to a plain computation of it, with a short
// last block wherever it comes to lie.
func TestSequence(t *testing.T) {
	for _, samples := range []int64{5, 16384, 16385, 40000, 50001} {
		o := newOrder(t, OrderConfig{Samples: samples, Lanes: 1, BatchSize: 1, Seed: 9, Shuffle: true})
		for epoch := range int64(4) {
			p := newPermutation(ceilDiv(samples, o.blockSize), stream(purposeBlocks, 9, uint64(epoch), 0, 0))
			var want []int64
			for slot := range int64(p.n) {
				block := p.at(slot)
				for sample := block * o.blockSize; sample < min((block+1)*o.blockSize, samples); sample++ {
					want = append(want, sample)
				}
			}
			var got []int64
			r := rand.New(rand.NewPCG(1, 1))
			for int64(len(got)) < samples {
				n := min(1+r.Int64N(5000), samples-int64(len(got)))
				got = o.sequence(epoch).append(got, int64(len(got)), n)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%d samples, epoch %d: another sequence", samples, epoch)
			}
		}
	}
}

func TestAssignLanes(t *testing.T) {
	for lanes := range 20 {
		for world := 1; world <= 17; world++ {
			next, sizes := 0, []int{}
			for rank := range world {
				first, end := AssignLanes(lanes, world, rank)
				if first != next {
					t.Fatalf("%d lanes, rank %d of %d begins at %d, not %d", lanes, rank, world, first, next)
				}
				next, sizes = end, append(sizes, end-first)
			}
			sort.Ints(sizes)
			if next != lanes || sizes[world-1]-sizes[0] > 1 {
				t.Fatalf("%d lanes over %d ranks: %v", lanes, world, sizes)
			}
		}
	}
}

func BenchmarkMicroBatch(b *testing.B) {
	for _, samples := range []int64{20_000, 100_000_000} {
		b.Run(fmt.Sprint(samples), func(b *testing.B) {
			o := newOrder(b, OrderConfig{Samples: samples, Lanes: 1, BatchSize: 32, Seed: 1, Shuffle: true})
			var dst []int64
			for i := 0; b.Loop(); i++ {
				dst = o.MicroBatch(0, int64(i)%o.StepsPerEpoch(), 0, dst)
			}
		})
	}
}
