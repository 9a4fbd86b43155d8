package shard

import "fmt"

// Place returns where a sample comes in an epoch: in which lane, and as which of it, from 0. It panics if there is no such sample. With DropLast the
// place may lie behind the epoch's last step.
func (o *Order) Place(epoch, sample int64) (lane int, at int64) {
	if epoch < 0 || sample < 0 || sample >= o.cfg.Samples {
		panic(fmt.Sprintf("shard: no sample %d of %d in epoch %d", sample, o.cfg.Samples, epoch))
	}
	position := sample
	if o.cfg.Shuffle {
		position = o.sequence(epoch).position(sample)
	}
	i := spanOf(o.cfg.Samples, int64(o.cfg.Lanes), position)
	first, end := span(o.cfg.Samples, int64(o.cfg.Lanes), i)
	lane, at = int(i), position-first
	if !o.cfg.Shuffle {
		return lane, at
	}
	size := windowBlocks * o.blockSize
	window := at / size
	cache := &o.lanes[lane]
	cache.mu.Lock()
	defer cache.mu.Unlock()
	o.fillWindow(cache, epoch, lane, window, first+window*size, min(size, end-first-window*size))
	for k, other := range cache.samples {
		if other == sample {
			return lane, window*size + int64(k)
		}
	}
	panic(fmt.Sprintf("shard: sample %d of epoch %d is not in its window", sample, epoch))
}

// position is the inverse of at.
func (b *blockSequence) position(sample int64) int64 {
	slot := b.order.inverse(sample / b.blockSize)
	position := slot*b.blockSize + sample%b.blockSize
	if slot > b.short {
		position -= int64(b.order.n)*b.blockSize - b.n // what is missing from the short block before it
	}
	return position
}

// spanOf returns which of the parts that span cuts holds position at.
func spanOf(total, parts, at int64) int64 {
	size, larger := total/parts, total%parts
	if behind := at - larger*(size+1); behind >= 0 {
		return larger + behind/size
	}
	return at / (size + 1)
}
