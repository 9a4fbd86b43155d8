package shard

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

// The examples of Parquet's Encodings.md, and runs that follow each other.
func TestHybrid(t *testing.T) {
	h := hybrid{b: []byte("\x03\x88\xc6\xfa"), width: 3}
	for want := range uint32(8) {
		if got, err := h.next(); got != want || err != nil {
			t.Fatalf("%d, %v; want %d", got, err, want)
		}
	}
	if _, err := h.next(); err == nil {
		t.Error("more than eight")
	}
	h = hybrid{b: []byte("\x06\x05\x03\x88\xc6\xfa\x00\x07\x04\x02"), width: 3} // three 5, 0 to 7, no 7, two 2
	var got []uint32
	for v, err := h.next(); err == nil; v, err = h.next() {
		got = append(got, v)
	}
	if want := []uint32{5, 5, 5, 0, 1, 2, 3, 4, 5, 6, 7, 2, 2}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestBitsAt(t *testing.T) {
	b := []byte{0xF1, 0xE2, 0xD3, 0xC4, 0xB5, 0xA6, 0x97, 0x88, 0x79, 0x6A, 0x5B}
	for bit := range 8 * len(b) {
		for width := range min(64, 8*len(b)-bit) + 1 {
			want := uint64(0)
			for i := range width {
				want |= uint64(b[(bit+i)/8]>>((bit+i)%8)&1) << i
			}
			if got, err := bitsAt(b, bit, width); got != want || err != nil {
				t.Fatalf("%d bits at %d: %x, %v; want %x", width, bit, got, err, want)
			}
		}
		if _, err := bitsAt(b, bit, 8*len(b)-bit+1); err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
	}
}

// Counts that are not true cost nothing and end in an error.
func TestDamagedEncodings(t *testing.T) {
	many := string(binary.AppendUvarint(nil, math.MaxInt32))
	var dict dictionary
	if err := dict.set([]byte("\x01\x00\x00\x00a\x01\x00\x00\x00b"), 2); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ n, b string }{{"more", "\x01\x00\x00\x00a"}, {"a length behind the end", "\xff\xff\xff\xffa\x01\x00\x00"}} {
		if err := new(dictionary).set([]byte(c.b), 2); err == nil {
			t.Errorf("%s: no error", c.n)
		}
	}
	open := func(values byteArrays, err error) func() ([]byte, error) {
		if err != nil {
			return func() ([]byte, error) { return nil, err }
		}
		return values.next
	}
	for name, next := range map[string]func() ([]byte, error){
		"a length behind the end":  (&plainArrays{[]byte("\xff\xff\xff\xffa")}).next,
		"behind the dictionary":    (&dictArrays{&dict, hybrid{b: []byte("\x02\x02"), width: 2}}).next,
		"an endless number":        (&dictArrays{&dict, hybrid{b: []byte(strings.Repeat("\xff", 12)), width: 2}}).next,
		"runs of none":             (&dictArrays{&dict, hybrid{b: make([]byte, 1000), width: 1}}).next,
		"blocks of nothing":        open(newDeltaLengths([]byte("\x00\x01\x01\x00"))),
		"blocks in no parts":       open(newDeltaLengths([]byte("\x80\x01\x00\x01\x00"))),
		"lengths that are not":     open(newDeltaLengths([]byte("\x80\x01\x04" + many + "\x00"))),
		"a negative length":        open(newDeltaLengths([]byte("\x80\x01\x04\x01\x01abc"))),
		"a length of more":         open(newDeltaLengths([]byte("\x80\x01\x04\x01\x08abc"))),
		"numbers of 65 bits":       open(newDeltaLengths([]byte("\x80\x01\x04\x02\x00\x00\x41\x00\x00\x00" + strings.Repeat("x", 300)))),
		"a beginning of more":      open(newDeltaArrays([]byte("\x80\x01\x04\x01\x02" + "\x80\x01\x04\x01\x02abc"))),
		"nothing behind beginning": open(newDeltaArrays([]byte("\x80\x01\x04\x01\x00"))),
	} {
		var err error
		for n := 0; err == nil && n < 10; n++ {
			_, err = next()
		}
		if !errors.Is(err, errEncoding) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
