package shard

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// lengths is samples of random lengths, at most longest, in an index without shards.
func lengths(r *rand.Rand, n int, longest int) *Samples {
	s := sized(int64(n))
	s.unit, s.max, s.data = Window, int64(longest), make([]byte, sampleHeaderBytes+sampleEntryBytes*n)
	for i := range n {
		le.PutUint32(s.data[sampleHeaderBytes+sampleEntryBytes*i+4:], uint32(1+r.IntN(longest)))
	}
	return s
}

func tokenPlans(t testing.TB, d *Dataset, order OrderConfig, cfg TokenPlanConfig) *TokenPlans {
	t.Helper()
	p, err := NewTokenPlans(d, order, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func planOf(t testing.TB, p *TokenPlans, epoch int64) *TokenPlan {
	t.Helper()
	plan, err := p.Epoch(context.Background(), epoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plan.Close() })
	return plan
}

func withTwo(text int) int { return text + 2 }

// TestTokenPlanProperty: for random lengths, weights, budgets, lanes, seeds and worlds, every number of an epoch is in exactly one micro-batch, none has more tokens than the
// budget or could have taken its lane's next sample, and who plans makes no difference.
func TestTokenPlanProperty(t *testing.T) {
	r := rand.New(rand.NewPCG(41, 42))
	for range 40 {
		longest := 1 + r.IntN(60)
		streams := []Stream{{Samples: lengths(r, 1+r.IntN(2000), longest)}}
		if r.IntN(2) == 0 {
			streams = append(streams, Stream{Samples: lengths(r, 2+r.IntN(1000), longest), Weight: 1.5})
		}
		d := datasetOf(t, r.Uint64(), streams...)
		order := OrderConfig{Lanes: 1 + r.IntN(17), Seed: r.Uint64(), Shuffle: r.IntN(4) > 0}
		cfg := TokenPlanConfig{Dir: t.TempDir(), Budget: longest + 2 + r.IntN(300), Length: withTwo}
		plans := tokenPlans(t, d, order, cfg)
		order.Samples, order.BatchSize = d.Len(), 1
		o := newOrder(t, order)
		epoch := r.Int64N(4)
		plan := planOf(t, plans, epoch)
		seen := make([]int, d.Len())
		most := int64(0)
		tokensOf := func(number int64) int {
			n, err := d.Tokens(epoch, number)
			if err != nil {
				t.Fatal(err)
			}
			return n + 2
		}
		world := 1 + r.IntN(17)
		for step := range plan.Steps() {
			if r.IntN(4) == 0 {
				world = 1 + r.IntN(17)
			}
			for rank := range world {
				first, end := AssignLanes(order.Lanes, world, rank)
				for lane := first; lane < end; lane++ {
					from, to, err := plan.Bounds(lane, step)
					if err != nil {
						t.Fatal(err)
					}
					used := 0
					for _, number := range o.Lane(epoch, lane, from, to, nil) {
						seen[number]++
						used += tokensOf(number)
					}
					if used > cfg.Budget {
						t.Fatalf("a micro-batch of %d tokens, the budget is %d", used, cfg.Budget)
					}
					if from < to {
						most = max(most, step+1)
					}
					if from < to && to < o.LaneLen(lane) && used+tokensOf(o.Lane(epoch, lane, to, to+1, nil)[0]) <= cfg.Budget {
						t.Fatalf("lane %d, step %d ends at %d although another sample fits", lane, step, to)
					}
				}
			}
		}
		if most != plan.Steps() {
			t.Fatalf("%d steps, the longest lane has %d", plan.Steps(), most)
		}
		for number, n := range seen {
			if n != 1 {
				t.Fatalf("number %d came %d times", number, n)
			}
		}
		cfg.Dir = t.TempDir()
		if other := planOf(t, tokenPlans(t, d, order, cfg), epoch); other.Digest() != plan.Digest() || !reflect.DeepEqual(other.data, plan.data) {
			t.Fatal("planned again, an epoch has another plan")
		}
	}
}

// With DropLast, every lane has samples in every step.
func TestTokenPlanDropLast(t *testing.T) {
	r := rand.New(rand.NewPCG(43, 44))
	d := datasetOf(t, 1, Stream{Samples: lengths(r, 700, 30)})
	plan := planOf(t, tokenPlans(t, d, OrderConfig{Lanes: 5, Shuffle: true, DropLast: true}, TokenPlanConfig{Dir: t.TempDir(), Budget: 90, Length: withTwo}), 0)
	for step := range plan.Steps() {
		for lane := range 5 {
			if from, to, err := plan.Bounds(lane, step); from >= to || err != nil {
				t.Errorf("step %d of %d: lane %d has nothing (%v)", step, plan.Steps(), lane, err)
			}
		}
	}
}

// A plan is made once; one that is damaged, or of something else, is made again.
func TestTokenPlanFile(t *testing.T) {
	r := rand.New(rand.NewPCG(45, 46))
	d := datasetOf(t, 1, Stream{Samples: lengths(r, 500, 20)})
	cfg := TokenPlanConfig{Dir: filepath.Join(t.TempDir(), "plans"), Budget: 64, Length: withTwo}
	order := OrderConfig{Lanes: 3, Shuffle: true}
	plan := planOf(t, tokenPlans(t, d, order, cfg), 1)
	before, err := os.Stat(plan.path)
	if err != nil {
		t.Fatal(err)
	}
	again := planOf(t, tokenPlans(t, d, order, cfg), 1)
	if after, _ := os.Stat(again.path); !os.SameFile(before, after) {
		t.Error("a plan that was there is made again")
	}
	content, err := os.ReadFile(plan.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 9, 20, 60, 85, 97, 110, len(content) - 1} {
		damaged := append([]byte{}, content...)
		damaged[at] ^= 0x40
		if err := os.WriteFile(plan.path+".new", damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(plan.path+".new", plan.path); err != nil {
			t.Fatal(err)
		}
		if mended := planOf(t, tokenPlans(t, d, order, cfg), 1); !reflect.DeepEqual(mended.data, content) {
			t.Errorf("byte %d: the damaged plan is used", at)
		}
	}
	digests := map[string]bool{plan.Digest(): true}
	for _, other := range []func(){
		func() { cfg.Budget = 65 }, func() { order.Lanes = 4 }, func() { order.Seed = 9 },
		func() { cfg.Length = func(n int) int { return n + 3 } }, func() { order.DropLast = true },
	} {
		other()
		digest := planOf(t, tokenPlans(t, d, order, cfg), 1).Digest()
		if digests[digest] {
			t.Error("another plan has the same digest")
		}
		digests[digest] = true
	}
}

func TestTokenPlanOfLongSamples(t *testing.T) {
	s := lengths(rand.New(rand.NewPCG(47, 48)), 50, 20)
	le.PutUint32(s.data[sampleHeaderBytes+sampleEntryBytes*7+4:], 20)
	_, err := NewTokenPlans(datasetOf(t, 1, Stream{Name: "wiki", Samples: s}), OrderConfig{Lanes: 1}, TokenPlanConfig{Dir: t.TempDir(), Budget: 21, Length: withTwo})
	wantError(t, err, "stream wiki", "22 tokens", "21", "per_device_train_tokens")
}

// BenchmarkTokenPlan plans an epoch of 1e6 samples in 2 lanes.
func BenchmarkTokenPlan(b *testing.B) {
	d := datasetOf(b, 1, Stream{Samples: lengths(rand.New(rand.NewPCG(1, 1)), 1_000_000, 126)})
	dir := b.TempDir()
	p := tokenPlans(b, d, OrderConfig{Lanes: 2, Shuffle: true}, TokenPlanConfig{Dir: dir, Budget: 4096, Length: withTwo})
	for epoch := int64(0); b.Loop(); epoch++ {
		planOf(b, p, epoch)
	}
}
