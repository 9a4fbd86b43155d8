package shard

import (
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// shardEntry is what index.json says of a shard.
type shardEntry struct {
	File      string `json:"file"`
	Part      int    `json:"part"`
	Number    int    `json:"number"` // in the part
	Bytes     int64  `json:"bytes"`
	CRC32C    string `json:"crc32c"` // of the whole file, 8 hexadecimal digits
	Tokens    int64  `json:"tokens"`
	Sentences int64  `json:"sentences"`
	Documents int64  `json:"documents"`
}

func shardName(part, number int) string { return fmt.Sprintf("shard-%05d-%05d.bin", part, number) }

// writer gathers documents and writes them as shard files. A shard is held in
// memory until it is full, since its tables follow its tokens.
type writer struct {
	host      string // names temporary files
	dir       string
	part      int
	corpus    [16]byte
	vocabSize uint32
	limit     int64 // bytes of tokens after which a shard is closed

	h         header
	tokens    []byte
	words     []byte
	sentences []uint32
	documents []uint32
	sources   []uint32
	lengths   []uint32
	offsets   []uint64
	lines     []uint64
	hashes    []byte

	shards []shardEntry
}

// begin makes the writer ready for a part, as which expect bytes of text come: room is made at once for as many bytes of tokens,
// up to a shard. A writer is used for one part after another, so that its memory is.
func (w *writer) begin(part int, expect int64) {
	w.part, w.shards = part, nil
	if room := min(w.limit, expect); int64(cap(w.tokens)) < room {
		w.tokens = make([]byte, 0, room)
	}
	w.reset()
}

func (w *writer) reset() {
	w.h = header{tokenBytes: tokenBytesFor(int64(w.vocabSize)), part: uint32(w.part), number: uint32(len(w.shards)),
		vocabSize: w.vocabSize, corpus: w.corpus}
	w.tokens, w.words = w.tokens[:0], w.words[:0]
	w.sentences, w.documents = append(w.sentences[:0], 0), append(w.documents[:0], 0)
	w.sources, w.lengths, w.offsets = w.sources[:0], w.lengths[:0], w.offsets[:0]
	w.lines, w.hashes = w.lines[:0], w.hashes[:0]
}

// add takes a document of at least one token. A shard is closed before a document
// that would not fit, so only a document larger than a shard makes a larger one.
func (w *writer) add(doc document, encodings []Encoding) error {
	var tokens int64
	for _, e := range encodings {
		tokens += int64(len(e.IDs))
	}
	if tokens > maxTableEntries {
		return fmt.Errorf("the document at byte %d has %d tokens, more than a shard can hold", doc.offset, tokens)
	}
	if full := int64(len(w.tokens)) + tokens*int64(w.h.tokenBytes); full > w.limit && w.h.documents > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	for _, e := range encodings {
		if len(e.IDs) == 0 {
			continue
		}
		w.addSentence(e)
	}
	w.h.documents++
	w.documents = append(w.documents, uint32(w.h.sentences))
	w.sources = append(w.sources, uint32(doc.source))
	w.lengths = append(w.lengths, uint32(doc.bytes))
	w.offsets = append(w.offsets, uint64(doc.offset))
	w.lines = append(w.lines, uint64(doc.line))
	w.hashes = append(w.hashes, doc.hash[:]...)
	return nil
}

func (w *writer) addSentence(e Encoding) {
	for i, id := range e.IDs {
		if w.h.tokens%8 == 0 {
			w.words = append(w.words, 0)
		}
		if e.WordStart[i] {
			w.words[w.h.tokens/8] |= 1 << (w.h.tokens % 8)
		}
		w.h.tokens++
		if w.h.tokenBytes == 2 {
			w.tokens = le.AppendUint16(w.tokens, uint16(id))
		} else {
			w.tokens = le.AppendUint32(w.tokens, id)
		}
	}
	w.h.sentences++
	w.sentences = append(w.sentences, uint32(w.h.tokens))
}

// flush writes the shard gathered so far, if it holds anything: whole or not at all.
func (w *writer) flush() error {
	if w.h.documents == 0 {
		return nil
	}
	name := shardName(w.part, len(w.shards))
	crc := crc32.New(castagnoli)
	err := writeFileAs(w.host, filepath.Join(w.dir, name), func(f *os.File) error { return w.writeTo(io.MultiWriter(f, crc)) })
	if err != nil {
		return err
	}
	w.shards = append(w.shards, shardEntry{File: name, Part: w.part, Number: len(w.shards), Bytes: w.h.layout().end,
		CRC32C: fmt.Sprintf("%08x", crc.Sum32()), Tokens: int64(w.h.tokens), Sentences: int64(w.h.sentences), Documents: int64(w.h.documents)})
	w.reset()
	return nil
}

// writeTo writes the header and the sections in the order of layout.
func (w *writer) writeTo(out io.Writer) error {
	if _, err := out.Write(w.h.encode()); err != nil {
		return err
	}
	for _, section := range [][]byte{w.tokens, w.words, bytes32(w.sentences), bytes32(w.documents),
		bytes32(w.sources), bytes32(w.lengths), bytes64(w.offsets), bytes64(w.lines), w.hashes} {
		if _, err := out.Write(section); err != nil {
			return err
		}
		if _, err := out.Write(make([]byte, -len(section)&7)); err != nil {
			return err
		}
	}
	return nil
}

func bytes32(values []uint32) []byte {
	b := make([]byte, 0, 4*len(values))
	for _, v := range values {
		b = le.AppendUint32(b, v)
	}
	return b
}

func bytes64(values []uint64) []byte {
	b := make([]byte, 0, 8*len(values))
	for _, v := range values {
		b = le.AppendUint64(b, v)
	}
	return b
}
