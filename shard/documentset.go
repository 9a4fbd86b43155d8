package shard

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math/bits"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

const (
	setMagic       = "ddpdocum"
	setVersion     = 1
	setHeaderBytes = 72
	setCRCFrom     = 16
)

// DocumentSet says which documents of a corpus count. It is a bitmap in a mapped file; see docs/shard-format.md. Several
// goroutines may read it.
type DocumentSet struct {
	path      string
	data      []byte
	digest    string
	documents int64 // of the corpus
	counted   int64
	tokens    int64 // of the documents that count
}

// Has tells whether document d of the corpus counts.
func (s *DocumentSet) Has(d int64) bool { return s.data[setHeaderBytes+d>>3]>>(d&7)&1 != 0 }

// Len is the number of documents that count.
func (s *DocumentSet) Len() int64 { return s.counted }

// Tokens is the number of tokens in documents that count.
func (s *DocumentSet) Tokens() int64 { return s.tokens }

// Digest names what the set follows from, in hexadecimal: see [DocumentsDigest].
func (s *DocumentSet) Digest() string { return s.digest }

// Close unmaps the set. Nothing may be reading it.
func (s *DocumentSet) Close() error {
	if s.data == nil {
		return nil
	}
	data := s.data
	s.data = nil
	return unix.Munmap(data)
}

// setBuilder gathers a set; documents that count are added in any order.
type setBuilder struct {
	bits                       []byte
	documents, counted, tokens int64
}

func newSetBuilder(documents int64) *setBuilder {
	return &setBuilder{bits: make([]byte, (documents+63)/64*8), documents: documents}
}

func (b *setBuilder) add(d, tokens int64) {
	b.bits[d>>3] |= 1 << (d & 7)
	b.counted++
	b.tokens += tokens
}

// write writes the set's file and syncs it.
func (b *setBuilder) write(path string, digest [sha256.Size]byte) error {
	h := make([]byte, setHeaderBytes)
	copy(h, setMagic)
	le.PutUint32(h[8:], setVersion)
	copy(h[16:], digest[:])
	for i, v := range []int64{b.documents, b.counted, b.tokens} {
		le.PutUint64(h[48+8*i:], uint64(v))
	}
	sum := crc32.Update(crc32.Checksum(h[setCRCFrom:], castagnoli), castagnoli, b.bits)
	le.PutUint32(h[12:], sum)
	return writeFileAtomic(path, func(f *os.File) error {
		if _, err := f.Write(h); err != nil {
			return err
		}
		_, err := f.Write(b.bits)
		return err
	})
}

// openDocumentSet maps a set of that name over so many documents and checks all of it.
func openDocumentSet(path string, digest [sha256.Size]byte, documents int64) (*DocumentSet, error) {
	data, _, err := mapFile(path, setHeaderBytes+(documents+63)/64*8)
	if err != nil {
		return nil, err
	}
	s := &DocumentSet{path: path, data: data, digest: hex.EncodeToString(digest[:]), documents: documents}
	if err := s.parse(digest); err != nil {
		_ = unix.Munmap(data)
		return nil, fmt.Errorf("shard: %s %w", path, err)
	}
	return s, nil
}

func (s *DocumentSet) parse(digest [sha256.Size]byte) (err error) {
	defer faultError(s.path, debug.SetPanicOnFault(true), &err)
	h := s.data[:setHeaderBytes]
	if string(h[:8]) != setMagic {
		return fmt.Errorf("is no set of documents (magic %q)", h[:8])
	}
	if v := le.Uint32(h[8:]); v != setVersion {
		return fmt.Errorf("has format version %d; this program reads version %d", v, setVersion)
	}
	if [sha256.Size]byte(h[16:48]) != digest {
		return fmt.Errorf("is the set of other documents")
	}
	if n := le.Uint64(h[48:]); n != uint64(s.documents) {
		return fmt.Errorf("is of %d documents; the corpus has %d", n, s.documents)
	}
	if sum := crc32.Checksum(s.data[setCRCFrom:], castagnoli); sum != le.Uint32(h[12:]) {
		return fmt.Errorf("has checksum %08x and should have %08x", sum, le.Uint32(h[12:]))
	}
	bitmap := s.data[setHeaderBytes:]
	for i := 0; i < len(bitmap); i += 8 {
		s.counted += int64(bits.OnesCount64(le.Uint64(bitmap[i:])))
	}
	if n := le.Uint64(h[56:]); n != uint64(s.counted) {
		return fmt.Errorf("counts %d documents and marks %d", n, s.counted)
	}
	if rest := s.documents & 63; rest != 0 && le.Uint64(bitmap[len(bitmap)-8:])>>rest != 0 {
		return fmt.Errorf("marks documents behind the last")
	}
	if s.tokens = int64(le.Uint64(h[64:])); s.tokens < s.counted {
		return fmt.Errorf("counts %d tokens in %d documents", s.tokens, s.counted)
	}
	return nil
}
