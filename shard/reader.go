package shard

import (
	"fmt"
	"hash/crc32"
	"os"
	"runtime/debug"
	"sort"

	"golang.org/x/sys/unix"
)

// shardFile is a mapped shard whose tables have been checked. Who has it from Corpus.shard releases it.
type shardFile struct {
	pins
	info   os.FileInfo // of the file that is mapped
	path   string
	number int // in the corpus: its place in index.json
	data   []byte
	h      header
	l      layout
}

// openShard maps shard i of a corpus, checks it against what index.json says, and its
// checksum unless skipChecksum is set.
func openShard(path string, x *index, i int, skipChecksum bool) (*shardFile, error) {
	data, info, err := mapFile(path, x.Shards[i].Bytes)
	if err != nil {
		return nil, err
	}
	s, err := parseShard(path, data, x, i, skipChecksum)
	if err != nil {
		_ = unix.Munmap(data)
		return nil, err
	}
	s.info = info
	return s, nil
}

func parseShard(path string, data []byte, x *index, i int, skipChecksum bool) (s *shardFile, err error) {
	defer faultError(path, debug.SetPanicOnFault(true), &err)
	h, err := decodeHeader(data)
	if err != nil {
		return nil, fmt.Errorf("shard: %s %w", path, err)
	}
	if want := x.header(i); h != want {
		return nil, fmt.Errorf("shard: %s is not the file that index.json speaks of (%+v, not %+v); %s", path, h, want, hintDamaged)
	}
	s = &shardFile{path: path, number: i, data: data, h: h, l: h.layout()}
	if int64(len(data)) != s.l.end {
		return nil, fmt.Errorf("shard: %s has %d bytes, and its header says %d; %s", path, len(data), s.l.end, hintDamaged)
	}
	if !skipChecksum {
		if sum := fmt.Sprintf("%08x", crc32.Checksum(data, castagnoli)); sum != x.Shards[i].CRC32C {
			return nil, fmt.Errorf("shard: %s has checksum %s and should have %s; %s", path, sum, x.Shards[i].CRC32C, hintDamaged)
		}
	}
	if err := s.checkTables(len(x.Sources)); err != nil {
		return nil, fmt.Errorf("shard: %s: %w; %s", path, err, hintDamaged)
	}
	return s, nil
}

// checkTables holds the tables to what every reader relies on: sentences part the
// tokens, documents part the sentences, and none is empty.
func (s *shardFile) checkTables(sources int) error {
	if err := s.checkParts("sentence", s.l.sentences, s.h.sentences, s.h.tokens); err != nil {
		return err
	}
	if err := s.checkParts("document", s.l.documents, s.h.documents, s.h.sentences); err != nil {
		return err
	}
	for d := range int64(s.h.documents) {
		if source := s.u32(s.l.sources, d); int64(source) >= int64(sources) {
			return fmt.Errorf("document %d comes from source %d of %d", d, source, sources)
		}
	}
	return nil
}

func (s *shardFile) checkParts(what string, table int64, n, total uint64) error {
	previous := s.u32(table, 0)
	if previous != 0 {
		return fmt.Errorf("%s 0 begins at %d", what, previous)
	}
	for i := range int64(n) {
		next := s.u32(table, i+1)
		if next <= previous {
			return fmt.Errorf("%s %d reaches from %d to %d", what, i, previous, next)
		}
		previous = next
	}
	if uint64(previous) != total {
		return fmt.Errorf("the last %s ends at %d of %d", what, previous, total)
	}
	return nil
}

func (s *shardFile) u32(table, i int64) uint32 { return le.Uint32(s.data[table+4*i:]) }

// sentence returns the tokens [start, end) of sentence i.
func (s *shardFile) sentence(i int64) (start, end int64) {
	return int64(s.u32(s.l.sentences, i)), int64(s.u32(s.l.sentences, i+1))
}

// sentenceAt returns the sentence that token t belongs to.
func (s *shardFile) sentenceAt(t int64) int64 {
	return int64(sort.Search(int(s.h.sentences), func(i int) bool {
		_, end := s.sentence(int64(i))
		return end > t
	}))
}

// document returns the tokens [start, end) of document d.
func (s *shardFile) document(d int64) (start, end int64) {
	first, _ := s.sentence(int64(s.u32(s.l.documents, d)))
	_, end = s.sentence(int64(s.u32(s.l.documents, d+1)) - 1)
	return first, end
}

// docSource is the place of document d's source in index.json.
func (s *shardFile) docSource(d int64) int { return int(s.u32(s.l.sources, d)) }

// docBytes is the size of document d in its source.
func (s *shardFile) docBytes(d int64) int64 { return int64(s.u32(s.l.lengths, d)) }

// docOffset is where document d begins in its source.
func (s *shardFile) docOffset(d int64) int64 { return int64(le.Uint64(s.data[s.l.offsets+8*d:])) }

// docLine is the number of document d's first line in its source, from 1; in Parquet of its row.
func (s *shardFile) docLine(d int64) int64 { return int64(le.Uint64(s.data[s.l.lines+8*d:])) }

// docHash is the first half of the SHA-256 of document d's text.
func (s *shardFile) docHash(d int64) [hashBytes]byte {
	return [hashBytes]byte(s.data[s.l.hashes+hashBytes*d:])
}

// documentAt returns the document that token t belongs to.
func (s *shardFile) documentAt(t int64) int64 {
	return int64(sort.Search(int(s.h.documents), func(d int) bool {
		_, end := s.document(int64(d))
		return end > t
	}))
}

// appendTokens appends the tokens [start, end) to dst. A token beyond the vocabulary
// is an error: it would index past the embedding.
func (s *shardFile) appendTokens(dst []uint32, start, end int64) ([]uint32, error) {
	width := int64(s.h.tokenBytes)
	section := s.data[s.l.tokens+start*width : s.l.tokens+end*width]
	var highest uint32
	if width == 2 {
		for i := 0; i+2 <= len(section); i += 2 {
			token := uint32(le.Uint16(section[i:]))
			highest = max(highest, token)
			dst = append(dst, token)
		}
	} else {
		for i := 0; i+4 <= len(section); i += 4 {
			token := le.Uint32(section[i:])
			highest = max(highest, token)
			dst = append(dst, token)
		}
	}
	if highest >= s.h.vocabSize {
		return dst, fmt.Errorf("shard: %s: token %d is beyond the vocabulary of %d; %s", s.path, highest, s.h.vocabSize, hintDamaged)
	}
	return dst, nil
}

// appendWords appends whether each of the tokens [start, end) starts a word.
func (s *shardFile) appendWords(dst []bool, start, end int64) []bool {
	words := s.data[s.l.words:]
	for t := start; t < end; t++ {
		dst = append(dst, words[t>>3]>>(t&7)&1 != 0)
	}
	return dst
}

// letGo gives the pages that were read back to the system, which has them in the file still: reading a whole corpus once is to take no
// memory.
func (s *shardFile) letGo() {
	_ = unix.Madvise(s.data, unix.MADV_DONTNEED) // only advice
}

func (s *shardFile) close() error { return unix.Munmap(s.data) }
