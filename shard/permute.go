package shard

import (
	"math/bits"
	"math/rand/v2"
)

// rounds of the swap-or-not shuffle. Its distance from a uniform permutation halves
// every other round or so; 128 leave nothing to see at any size that fits a disk.
const rounds = 128

// permutation is a keyed bijection of [0, n): the swap-or-not shuffle (Hoang, Morris,
// Rogaway: An Enciphering Scheme Based on a Card Shuffle, CRYPTO 2012). It needs no
// memory, any n will do, and each round is its own inverse. It is not meant to keep
// secrets.
type permutation struct {
	n     uint64
	key   [rounds]uint64 // a partner of x is key - x, modulo n
	tweak [rounds]uint64 // says which pairs swap
}

// Purposes of random streams, four letters each: no two of them share a key.
const (
	purposeBlocks = "blck"
	purposeWindow = "wind"
	purposeExtra  = "extr"
)

// stream is the generator of one purpose: a ChaCha8, whose output Go specifies, keyed
// by all that it depends on.
func stream(purpose string, seed, epoch uint64, lane uint32, window uint64) *rand.ChaCha8 {
	var key [32]byte
	copy(key[:4], purpose)
	le.PutUint32(key[4:], lane)
	le.PutUint64(key[8:], seed)
	le.PutUint64(key[16:], epoch)
	le.PutUint64(key[24:], window)
	return rand.NewChaCha8(key)
}

func newPermutation(n int64, source *rand.ChaCha8) *permutation {
	p := &permutation{n: uint64(n)}
	for r := range rounds {
		p.key[r] = below(source, p.n)
		p.tweak[r] = source.Uint64()
	}
	return p
}

// at returns the image of x.
func (p *permutation) at(x int64) int64 {
	u := uint64(x)
	for r := range rounds {
		u = p.round(r, u)
	}
	return int64(u)
}

// inverse returns the x whose image is y.
func (p *permutation) inverse(y int64) int64 {
	u := uint64(y)
	for r := rounds - 1; r >= 0; r-- {
		u = p.round(r, u)
	}
	return int64(u)
}

func (p *permutation) round(r int, x uint64) uint64 {
	partner := p.key[r] - x
	if x > p.key[r] {
		partner += p.n
	}
	if mix(max(x, partner)^p.tweak[r])>>63 != 0 {
		return partner
	}
	return x
}

// blockSequence is n samples in blocks of blockSize, of which the last may be shorter, in permuted order. Its slots hold one block each.
type blockSequence struct {
	n, blockSize int64
	order        *permutation
	short        int64 // slot that the last block comes to
}

func newBlockSequence(n, blockSize int64, source *rand.ChaCha8) *blockSequence {
	blocks := ceilDiv(n, blockSize)
	order := newPermutation(blocks, source)
	return &blockSequence{n: n, blockSize: blockSize, order: order, short: order.inverse(blocks - 1)}
}

// append appends the samples at positions [start, start+length) to dst.
func (b *blockSequence) append(dst []int64, start, length int64) []int64 {
	for end := start + length; start < end; {
		sample, left := b.locate(start)
		n := min(left, end-start)
		for i := range n {
			dst = append(dst, sample+i)
		}
		start += n
	}
	return dst
}

// at returns the sample at a position.
func (b *blockSequence) at(position int64) int64 {
	sample, _ := b.locate(position)
	return sample
}

// locate returns the sample at a position and how many follow it in its block, itself included.
func (b *blockSequence) locate(at int64) (sample, left int64) {
	missing := int64(b.order.n)*b.blockSize - b.n // from the last block
	// What lies behind the short slot lies where it would if that were whole.
	if at >= (b.short+1)*b.blockSize-missing {
		at += missing
	}
	slot, offset := at/b.blockSize, at%b.blockSize
	left = b.blockSize - offset
	if slot == b.short {
		left -= missing
	}
	return b.order.at(slot)*b.blockSize + offset, left
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom
// Number Generators, OOPSLA 2014).
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below draws from [0, n). It takes the high half of a product (Lemire: Fast Random
// Integer Generation in an Interval, 2019) without the rejection: the bias is at
// most n / 2^64, and every call draws once, so the arithmetic is easy to state.
func below(source rand.Source, n uint64) uint64 {
	high, _ := bits.Mul64(source.Uint64(), n)
	return high
}

// shuffle permutes values (Fisher and Yates). It is written out here since math/rand/v2
// specifies the output of its sources, but not of its Shuffle.
func shuffle(source rand.Source, values []int64) {
	for i := len(values) - 1; i > 0; i-- {
		j := below(source, uint64(i)+1)
		values[i], values[j] = values[j], values[i]
	}
}
