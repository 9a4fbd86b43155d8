package shard

import "fmt"

// EvalOrder is the order of an evaluation: the corpus's own, in micro-batches that
// depend on nothing but their size, so that sums gathered by micro-batch number
// are the same at any world size.
type EvalOrder struct {
	samples   int64
	batchSize int64
}

// NewEvalOrder returns the order of that many samples in micro-batches of batchSize.
func NewEvalOrder(samples int64, batchSize int) (*EvalOrder, error) {
	if samples < 1 || batchSize < 1 {
		return nil, fmt.Errorf("shard: an evaluation of %d samples in micro-batches of %d; both are at least 1", samples, batchSize)
	}
	return &EvalOrder{samples: samples, batchSize: int64(batchSize)}, nil
}

// Len is the number of micro-batches; only the last one may be short.
func (o *EvalOrder) Len() int64 { return ceilDiv(o.samples, o.batchSize) }

// MicroBatch returns the samples of micro-batch i, in dst, grown if need be. It panics
// if i is not in [0, Len).
func (o *EvalOrder) MicroBatch(i int64, dst []int64) []int64 {
	if i < 0 || i >= o.Len() {
		panic(fmt.Sprintf("shard: evaluation micro-batch %d of %d", i, o.Len()))
	}
	dst = dst[:0]
	for sample := i * o.batchSize; sample < min((i+1)*o.batchSize, o.samples); sample++ {
		dst = append(dst, sample)
	}
	return dst
}

// Pool returns the samples among which an evaluation looks for others beside sample: as many around it, from a fixed place on, as a large
// corpus's windows have.
func (o *EvalOrder) Pool(sample int64) Pool {
	const size = windowBlocks * maxBlockSamples
	start := sample / size * size
	return Pool{start: start, length: min(size, o.samples-start), samples: o.samples}
}

// Assign returns the micro-batches [first, end) that a rank evaluates: contiguous, in
// numbers that differ by at most one.
func (o *EvalOrder) Assign(world, rank int) (first, end int64) {
	if world < 1 || rank < 0 || rank >= world {
		panic(fmt.Sprintf("shard: no evaluation for rank %d of %d", rank, world))
	}
	return span(o.Len(), int64(world), int64(rank))
}
