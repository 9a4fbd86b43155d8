package shard

import (
	"fmt"
	"sync"
	"sync/atomic"
)

const (
	// maxBlockSamples is the size of a block in a large corpus: consecutive samples
	// that stay together, so that a disk is read in runs.
	maxBlockSamples = 1024
	// minBlocks is how many blocks a corpus is cut into at least (down to blocks of
	// one sample). DESIGN 3 asks for 64 blocks a lane, so that lanes are alike; but
	// with b blocks the rank correlation of two epochs has a standard deviation of
	// about 1/sqrt(b), so one lane of 64 blocks would often show 0.1. With 16,384
	// it stays under 0.05 for good, and a corpus has whole blocks from 16.8 million
	// samples on, which is where locality begins to matter.
	minBlocks     = 16384
	blocksPerLane = 64
	windowBlocks  = 16 // that a lane shuffles among each other
)

// OrderConfig is everything that the order of samples depends on.
type OrderConfig struct {
	Samples   int64 // in the corpus, at least 1
	Lanes     int   // parallel sequences of samples, at least 1; never the number of ranks
	BatchSize int   // samples in a micro-batch, at least 1
	Seed      uint64
	Shuffle   bool // false: every epoch goes through the corpus in its own order, cut into lanes
	DropLast  bool // leave out an epoch's last step unless it is full in every lane
}

// Order says which samples come when (DESIGN 3). It is a pure function of its
// configuration and the position asked for: any epoch, step and lane, in any order.
// It holds one shuffled window a lane, and may be used by several goroutines.
type Order struct {
	cfg       OrderConfig
	blockSize int64
	blocks    atomic.Pointer[epochSequence] // of the epoch that was used last
	lanes     []laneWindow
}

// laneWindow is the window of a lane that was used last.
type laneWindow struct {
	mu      sync.Mutex
	filled  bool
	epoch   int64
	window  int64
	samples []int64
}

// NewOrder checks cfg and returns its order.
func NewOrder(cfg OrderConfig) (*Order, error) {
	switch {
	case cfg.Samples < 1 || cfg.Samples > 1<<48:
		return nil, fmt.Errorf("shard: an order of %d samples; it is 1 to 2^48", cfg.Samples)
	case cfg.Lanes < 1 || cfg.Lanes > 1<<20:
		return nil, fmt.Errorf("shard: %d lanes; it is 1 to 2^20", cfg.Lanes)
	case cfg.BatchSize < 1 || cfg.BatchSize > 1<<30:
		return nil, fmt.Errorf("shard: micro-batches of %d samples; it is 1 to 2^30", cfg.BatchSize)
	}
	o := &Order{cfg: cfg, blockSize: blockSize(cfg.Samples, cfg.Lanes), lanes: make([]laneWindow, cfg.Lanes)}
	if o.StepsPerEpoch() == 0 {
		return nil, fmt.Errorf("shard: %d samples do not fill one step of %d lanes x %d samples; "+
			"unset dataloader_drop_last or take a smaller batch", cfg.Samples, cfg.Lanes, cfg.BatchSize)
	}
	return o, nil
}

// blockSize is the number of samples in a block, but for the corpus's last one.
func blockSize(samples int64, lanes int) int64 {
	blocks := max(minBlocks, blocksPerLane*int64(lanes))
	return min(maxBlockSamples, max(1, samples/blocks))
}

// StepsPerEpoch is ceil(ceil(samples / lanes) / batch size); in the last step lanes may
// be short or empty. With DropLast it counts the full steps.
func (o *Order) StepsPerEpoch() int64 {
	lanes, batch := int64(o.cfg.Lanes), int64(o.cfg.BatchSize)
	if o.cfg.DropLast {
		return o.cfg.Samples / lanes / batch
	}
	return ceilDiv(ceilDiv(o.cfg.Samples, lanes), batch)
}

// MicroBatch returns the samples that a lane takes in a step of an epoch, all from 0.
// It overwrites dst and returns it, grown if need be; it is empty where the lane has
// no sample left. A position that does not exist is a bug of the caller: it panics.
func (o *Order) MicroBatch(epoch, step int64, lane int, dst []int64) []int64 {
	if epoch < 0 || step < 0 || step >= o.StepsPerEpoch() || lane < 0 || lane >= o.cfg.Lanes {
		panic(fmt.Sprintf("shard: no micro-batch at epoch %d, step %d of %d, lane %d of %d",
			epoch, step, o.StepsPerEpoch(), lane, o.cfg.Lanes))
	}
	from := step * int64(o.cfg.BatchSize)
	return o.Lane(epoch, lane, from, max(from, min(from+int64(o.cfg.BatchSize), o.LaneLen(lane))), dst)
}

// BatchSize is the number of samples in a micro-batch.
func (o *Order) BatchSize() int64 { return int64(o.cfg.BatchSize) }

// LaneLen is the number of samples of a lane, the same in each epoch.
func (o *Order) LaneLen(lane int) int64 {
	first, end := span(o.cfg.Samples, int64(o.cfg.Lanes), int64(lane))
	return end - first
}

// Lane returns samples [from, to) of a lane in an epoch, counted from its start. It overwrites dst and returns it, grown if need be.
func (o *Order) Lane(epoch int64, lane int, from, to int64, dst []int64) []int64 {
	if epoch < 0 || from < 0 || to < from || from < to && to > o.LaneLen(lane) {
		panic(fmt.Sprintf("shard: samples %d to %d of the %d of lane %d", from, to, o.LaneLen(lane), lane))
	}
	dst = dst[:0]
	first, end := span(o.cfg.Samples, int64(o.cfg.Lanes), int64(lane))
	if !o.cfg.Shuffle {
		for at := from; at < to; at++ {
			dst = append(dst, first+at)
		}
		return dst
	}
	size := windowBlocks * o.blockSize
	cache := &o.lanes[lane]
	cache.mu.Lock()
	defer cache.mu.Unlock()
	for at := from; at < to; {
		window := at / size
		o.fillWindow(cache, epoch, lane, window, first+window*size, min(size, end-first-window*size))
		n := min(to, (window+1)*size) - at
		dst = append(dst, cache.samples[at-window*size:][:n]...)
		at += n
	}
	return dst
}

// Pool returns the samples among which the lane's sample number at of the epoch is shuffled: its own window of blocks. It is
// the same at any number of ranks.
func (o *Order) Pool(epoch int64, lane int, at int64) Pool {
	first, end := span(o.cfg.Samples, int64(o.cfg.Lanes), int64(lane))
	size := windowBlocks * o.blockSize
	start := at / size * size
	return Pool{order: o, epoch: epoch, start: first + start, length: min(size, end-first-start)}
}

// sampleAt returns the sample at a position of the epoch's sequence of blocks, before lanes shuffle it.
func (o *Order) sampleAt(epoch, position int64) int64 {
	if !o.cfg.Shuffle {
		return position
	}
	return o.sequence(epoch).at(position)
}

// fillWindow sets the cache to a window of a lane: length positions of the epoch's
// sequence of blocks, from start on, shuffled.
func (o *Order) fillWindow(cache *laneWindow, epoch int64, lane int, window, start, length int64) {
	if cache.filled && cache.epoch == epoch && cache.window == window {
		return
	}
	cache.filled, cache.epoch, cache.window = true, epoch, window
	cache.samples = o.sequence(epoch).append(cache.samples[:0], start, length)
	shuffle(stream(purposeWindow, o.cfg.Seed, uint64(epoch), uint32(lane), uint64(window)), cache.samples)
}

// sequence is the epoch's permuted sequence of blocks.
func (o *Order) sequence(epoch int64) *blockSequence {
	if b := o.blocks.Load(); b != nil && b.epoch == epoch {
		return b.blockSequence
	}
	b := &epochSequence{epoch, newBlockSequence(o.cfg.Samples, o.blockSize, stream(purposeBlocks, o.cfg.Seed, uint64(epoch), 0, 0))}
	o.blocks.Store(b)
	return b.blockSequence
}

// AssignLanes returns the lanes [first, end) that a rank holds: contiguous, in numbers
// that differ by at most one. Ranks beyond the number of lanes hold none.
func AssignLanes(lanes, world, rank int) (first, end int) {
	if lanes < 0 || world < 1 || rank < 0 || rank >= world {
		panic(fmt.Sprintf("shard: no lanes for rank %d of %d, with %d lanes", rank, world, lanes))
	}
	a, b := span(int64(lanes), int64(world), int64(rank))
	return int(a), int(b)
}

// span cuts [0, total) into parts whose sizes differ by at most one, the larger ones
// first, and returns part i.
func span(total, parts, i int64) (first, end int64) {
	size, larger := total/parts, total%parts
	first = i*size + min(i, larger)
	end = first + size
	if i < larger {
		end++
	}
	return first, end
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
