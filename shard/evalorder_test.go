package shard

import "testing"

func TestEvalOrder(t *testing.T) {
	for samples := int64(1); samples < 40; samples++ {
		for batch := 1; batch < 12; batch++ {
			o, err := NewEvalOrder(samples, batch)
			if err != nil {
				t.Fatal(err)
			}
			for world := 1; world <= 17; world++ {
				next := int64(0)
				var dst []int64
				for rank := range world {
					first, end := o.Assign(world, rank)
					for i := first; i < end; i++ {
						dst = o.MicroBatch(i, dst)
						for _, sample := range dst {
							if sample != next {
								t.Fatalf("%d samples by %d: sample %d comes after %d", samples, batch, sample, next-1)
							}
							next++
						}
						if len(dst) != batch && i != o.Len()-1 {
							t.Fatalf("micro-batch %d has %d samples", i, len(dst))
						}
					}
				}
				if next != samples {
					t.Fatalf("%d samples by %d, world %d: %d came", samples, batch, world, next)
				}
			}
		}
	}
	_, err := NewEvalOrder(0, 8)
	wantError(t, err, "0 samples")
}
