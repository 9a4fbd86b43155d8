package shard

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// Version is the version of the shard format that this package writes and reads.
const Version = 2

const (
	shardMagic  = "ddpshard"
	headerBytes = 72
	hashBytes   = 16 // of the SHA-256 of a document's text
	// maxTableEntries bounds tokens, sentences and documents of a shard: its tables
	// count them in 32 bits.
	maxTableEntries = math.MaxUint32 - 1
)

// castagnoli is the CRC that processors compute by themselves, so checking a shard
// costs about as much as reading it.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var le = binary.LittleEndian

// header opens a shard file. See docs/shard-format.md.
type header struct {
	tokenBytes uint32 // 2 or 4
	part       uint32 // that the shard belongs to, from 0
	number     uint32 // of the shard in its part, from 0
	vocabSize  uint32
	tokens     uint64
	sentences  uint64
	documents  uint64
	corpus     [16]byte // start of the corpus's digest
}

func (h *header) encode() []byte {
	b := make([]byte, headerBytes)
	copy(b, shardMagic)
	le.PutUint32(b[8:], Version)
	le.PutUint32(b[12:], h.tokenBytes)
	le.PutUint64(b[16:], h.tokens)
	le.PutUint64(b[24:], h.sentences)
	le.PutUint64(b[32:], h.documents)
	le.PutUint32(b[40:], h.part)
	le.PutUint32(b[44:], h.number)
	le.PutUint32(b[48:], h.vocabSize)
	copy(b[56:], h.corpus[:])
	return b
}

// decodeHeader reads a header and checks what can be checked without the file.
func decodeHeader(b []byte) (header, error) {
	if len(b) < headerBytes {
		return header{}, fmt.Errorf("%d bytes are too few for a shard's header", len(b))
	}
	if string(b[:8]) != shardMagic {
		return header{}, fmt.Errorf("is no shard file (magic %q)", b[:8])
	}
	if v := le.Uint32(b[8:]); v != Version {
		return header{}, fmt.Errorf("has shard format version %d; this program reads version %d; prepare the corpus again", v, Version)
	}
	h := header{
		tokenBytes: le.Uint32(b[12:]),
		tokens:     le.Uint64(b[16:]),
		sentences:  le.Uint64(b[24:]),
		documents:  le.Uint64(b[32:]),
		part:       le.Uint32(b[40:]),
		number:     le.Uint32(b[44:]),
		vocabSize:  le.Uint32(b[48:]),
		corpus:     [16]byte(b[56:72]),
	}
	if zero := le.Uint32(b[52:]); zero != 0 {
		return header{}, fmt.Errorf("has %d where its header has nothing", zero)
	}
	if h.tokenBytes != tokenBytesFor(int64(h.vocabSize)) {
		return header{}, fmt.Errorf("has %d bytes a token with a vocabulary of %d", h.tokenBytes, h.vocabSize)
	}
	if max(h.tokens, h.sentences, h.documents) > maxTableEntries {
		return header{}, fmt.Errorf("counts %d tokens, %d sentences, %d documents: too many", h.tokens, h.sentences, h.documents)
	}
	if h.sentences > h.tokens || h.documents > h.sentences || h.documents == 0 {
		return header{}, fmt.Errorf("counts %d tokens, %d sentences, %d documents: impossible", h.tokens, h.sentences, h.documents)
	}
	return h, nil
}

// tokenBytesFor is the width of a token: 2 bytes where the vocabulary allows.
func tokenBytesFor(vocabSize int64) uint32 {
	if vocabSize <= 1<<16 {
		return 2
	}
	return 4
}

// layout is where the sections of a shard file begin. It follows from the counts
// alone, so a file has no offsets that could lie.
type layout struct {
	tokens, words, sentences, documents, sources, lengths, offsets, lines, hashes, end int64
}

func (h *header) layout() layout {
	var l layout
	at := int64(headerBytes)
	place := func(section *int64, bytes int64) {
		*section = at
		at += (bytes + 7) &^ 7
	}
	place(&l.tokens, int64(h.tokens)*int64(h.tokenBytes))
	place(&l.words, (int64(h.tokens)+7)/8)
	place(&l.sentences, (int64(h.sentences)+1)*4)
	place(&l.documents, (int64(h.documents)+1)*4)
	place(&l.sources, int64(h.documents)*4)
	place(&l.lengths, int64(h.documents)*4)
	place(&l.offsets, int64(h.documents)*8)
	place(&l.lines, int64(h.documents)*8)
	place(&l.hashes, int64(h.documents)*hashBytes)
	l.end = at
	return l
}
