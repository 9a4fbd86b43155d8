package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// The encodings of strings in a page of Parquet (Parquet format, Encodings.md). All of them are read value by value, so no count
// that a damaged page holds takes memory.

var errEncoding = errors.New("damaged values")

// byteArrays yields the strings of a page that are not null; each is valid until the next.
type byteArrays interface {
	next() ([]byte, error)
}

// plainArrays: each string behind its length.
type plainArrays struct{ b []byte }

func (p *plainArrays) next() ([]byte, error) {
	if len(p.b) < 4 {
		return nil, io.ErrUnexpectedEOF
	}
	n := uint64(le.Uint32(p.b))
	if n > uint64(len(p.b)-4) {
		return nil, io.ErrUnexpectedEOF
	}
	value := p.b[4 : 4+n]
	p.b = p.b[4+n:]
	return value, nil
}

// dictionary is the strings of a dictionary page, in plain encoding.
type dictionary struct {
	b     []byte
	start []uint32 // of each string's length in b
}

// set takes a page with n strings.
func (d *dictionary) set(b []byte, n int64) error {
	if n < 0 || n > int64(len(b)/4) {
		return fmt.Errorf("%w: a dictionary of %d strings in %d bytes", errEncoding, n, len(b))
	}
	d.b, d.start = append(d.b[:0], b...), d.start[:0]
	all := plainArrays{d.b}
	for range n {
		d.start = append(d.start, uint32(len(d.b)-len(all.b)))
		if _, err := all.next(); err != nil {
			return err
		}
	}
	return nil
}

// dictArrays: numbers of strings in the dictionary.
type dictArrays struct {
	dict    *dictionary
	numbers hybrid
}

func (d *dictArrays) next() ([]byte, error) {
	i, err := d.numbers.next()
	if err != nil {
		return nil, err
	}
	if uint64(i) >= uint64(len(d.dict.start)) {
		return nil, fmt.Errorf("%w: string %d of a dictionary of %d", errEncoding, i, len(d.dict.start))
	}
	one := plainArrays{d.dict.b[d.dict.start[i]:]}
	return one.next()
}

// hybrid reads numbers of up to 32 bits as runs of one value and of packed bits.
type hybrid struct {
	b      []byte
	width  int   // bits of a number
	left   int64 // in the run
	value  uint32
	packed []byte // of a run of packed bits; nil in one of a value
	bit    int
}

func (h *hybrid) next() (uint32, error) {
	for h.left == 0 {
		if err := h.run(); err != nil {
			return 0, err
		}
	}
	h.left--
	if h.packed == nil {
		return h.value, nil
	}
	v, err := bitsAt(h.packed, h.bit, h.width)
	h.bit += h.width
	return uint32(v), err
}

func (h *hybrid) run() error {
	head, n := binary.Uvarint(h.b)
	if n <= 0 || head > math.MaxUint32 {
		return varintError(n)
	}
	h.b = h.b[n:]
	h.left = int64(head >> 1)
	if head&1 == 0 {
		size := (h.width + 7) / 8
		if len(h.b) < size {
			return io.ErrUnexpectedEOF
		}
		var value [4]byte
		copy(value[:], h.b[:size])
		h.value, h.packed, h.b = le.Uint32(value[:]), nil, h.b[size:]
		return nil
	}
	size := min(h.left*int64(h.width), int64(len(h.b))) // the last group may be cut
	h.packed, h.bit, h.b = h.b[:size:size], 0, h.b[size:]
	h.left *= 8
	return nil
}

// bitsAt returns width bits from a bit on, the lowest first.
func bitsAt(b []byte, bit, width int) (uint64, error) {
	if bit+width > 8*len(b) {
		return 0, io.ErrUnexpectedEOF
	}
	if width == 0 {
		return 0, nil
	}
	b = b[bit/8:]
	shift := bit % 8
	if len(b) < 9 {
		var room [9]byte
		copy(room[:], b)
		b = room[:]
	}
	v := le.Uint64(b)>>shift | uint64(b[8])<<(64-shift) // a shift by 64 gives 0
	return v & (math.MaxUint64 >> (64 - width)), nil
}

// deltas reads numbers as differences in packed blocks (DELTA_BINARY_PACKED).
type deltas struct {
	b       []byte
	perMini int // numbers in a miniblock
	minis   int // in a block
	left    int64
	value   int64 // the next one, where it is known
	known   bool
	base    int64
	widths  []byte // of the miniblocks to come in the block
	packed  []byte
	bit     int
	width   int
	inMini  int
}

func newDeltas(b []byte) (deltas, error) {
	var header [3]uint64
	for i := range header {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return deltas{}, varintError(n)
		}
		header[i], b = v, b[n:]
	}
	first, n := binary.Varint(b)
	if n <= 0 {
		return deltas{}, varintError(n)
	}
	block, minis, count := header[0], header[1], header[2]
	if block > 1<<20 || minis == 0 || block%minis != 0 || block/minis == 0 || block/minis%8 != 0 || count > math.MaxInt32 {
		return deltas{}, fmt.Errorf("%w: blocks of %d numbers in %d parts", errEncoding, block, minis)
	}
	return deltas{b: b[n:], perMini: int(block / minis), minis: int(minis), left: int64(count), value: first, known: true}, nil
}

func (d *deltas) next() (int64, error) {
	if d.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	d.left--
	if d.known {
		d.known = false
		return d.value, nil
	}
	if d.inMini == 0 {
		if err := d.mini(); err != nil {
			return 0, err
		}
	}
	d.inMini--
	v, err := bitsAt(d.packed, d.bit, d.width)
	d.bit += d.width
	d.value += d.base + int64(v)
	return d.value, err
}

// mini begins the next miniblock.
func (d *deltas) mini() error {
	if len(d.widths) == 0 {
		base, n := binary.Varint(d.b)
		if n <= 0 {
			return varintError(n)
		}
		if d.b = d.b[n:]; len(d.b) < d.minis {
			return io.ErrUnexpectedEOF
		}
		d.base, d.widths, d.b = base, d.b[:d.minis], d.b[d.minis:]
	}
	d.width, d.widths = int(d.widths[0]), d.widths[1:]
	size := d.width * d.perMini / 8
	if d.width > 64 || len(d.b) < size {
		return fmt.Errorf("%w: %d bits a number", errEncoding, d.width)
	}
	d.packed, d.bit, d.b, d.inMini = d.b[:size], 0, d.b[size:], d.perMini
	return nil
}

// rest is what lies behind the numbers. d stays as it is.
func (d deltas) rest() ([]byte, error) {
	for left := d.left - 1; left > 0; left -= int64(d.perMini) { // the first one lies in the header
		if err := d.mini(); err != nil {
			return nil, err
		}
	}
	return d.b, nil
}

// deltaLengths: lengths as deltas, then the bytes of all strings (DELTA_LENGTH_BYTE_ARRAY).
type deltaLengths struct {
	lengths deltas
	b       []byte
}

func newDeltaLengths(b []byte) (*deltaLengths, error) {
	lengths, err := newDeltas(b)
	if err != nil {
		return nil, err
	}
	rest, err := lengths.rest()
	return &deltaLengths{lengths, rest}, err
}

func (d *deltaLengths) next() ([]byte, error) {
	n, err := d.lengths.next()
	if err != nil {
		return nil, err
	}
	if n < 0 || n > int64(len(d.b)) {
		return nil, fmt.Errorf("%w: a string of %d bytes in %d", errEncoding, n, len(d.b))
	}
	value := d.b[:n]
	d.b = d.b[n:]
	return value, nil
}

// deltaArrays: how much of the string before each has in front, then the rest as deltaLengths (DELTA_BYTE_ARRAY).
type deltaArrays struct {
	prefixes deltas
	suffixes *deltaLengths
	value    []byte
}

func newDeltaArrays(b []byte) (*deltaArrays, error) {
	prefixes, err := newDeltas(b)
	if err != nil {
		return nil, err
	}
	rest, err := prefixes.rest()
	if err != nil {
		return nil, err
	}
	suffixes, err := newDeltaLengths(rest)
	return &deltaArrays{prefixes: prefixes, suffixes: suffixes}, err
}

func (d *deltaArrays) next() ([]byte, error) {
	n, err := d.prefixes.next()
	if err != nil {
		return nil, err
	}
	if n < 0 || n > int64(len(d.value)) {
		return nil, fmt.Errorf("%w: %d bytes of a string of %d", errEncoding, n, len(d.value))
	}
	suffix, err := d.suffixes.next()
	if err != nil {
		return nil, err
	}
	d.value = append(d.value[:n], suffix...)
	return d.value, nil
}

// varintError is for what binary.Uvarint says in place of a length.
func varintError(n int) error {
	if n == 0 {
		return io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: a number of more than 64 bits", errEncoding)
}
