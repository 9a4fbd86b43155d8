package shard

import (
	"math/rand/v2"
	"testing"
)

// Every sample is where Place says, in orders of any shape.
func TestPlace(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		cfg := OrderConfig{Samples: 1 + r.Int64N(40_000), Lanes: 1 + r.IntN(9), BatchSize: 1 + r.IntN(7), Seed: r.Uint64(), Shuffle: r.IntN(4) > 0}
		o, err := NewOrder(cfg)
		if err != nil {
			t.Fatal(err)
		}
		epoch := r.Int64N(5)
		for range 40 {
			sample := r.Int64N(cfg.Samples)
			lane, at := o.Place(epoch, sample)
			batch := o.MicroBatch(epoch, at/int64(cfg.BatchSize), lane, nil)
			if got := batch[at%int64(cfg.BatchSize)]; got != sample {
				t.Fatalf("%+v, epoch %d: sample %d shall be number %d of lane %d, where %d is", cfg, epoch, sample, at, lane, got)
			}
		}
	}
}

func TestSpanOf(t *testing.T) {
	for total := int64(0); total < 20; total++ {
		for parts := int64(1); parts < 9; parts++ {
			for i := range parts {
				for first, end := span(total, parts, i); first < end; first++ {
					if got := spanOf(total, parts, first); got != i {
						t.Errorf("%d of %d lies in part %d of %d, not %d", first, total, i, parts, got)
					}
				}
			}
		}
	}
}
