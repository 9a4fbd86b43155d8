package shard

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
)

const (
	indexName   = "index.json"
	indexFormat = "ddprun-shards"
)

// index is index.json: what a corpus was made of and the files that hold it.
type index struct {
	Format          string       `json:"format"`
	Version         int          `json:"version"`
	Digest          string       `json:"digest"`
	TokenizerDigest string       `json:"tokenizer_digest"`
	VocabSize       int          `json:"vocab_size"`
	TokenBytes      int          `json:"token_bytes"`
	Options         options      `json:"options"`
	Counts          Counts       `json:"counts"`
	Skipped         Skipped      `json:"skipped"`
	Sources         []Source     `json:"sources"`
	Shards          []shardEntry `json:"shards"`
}

// Counts are the sizes of a corpus and of what was left out of it.
type Counts struct {
	Documents        int64 `json:"documents"`
	Sentences        int64 `json:"sentences"`
	Tokens           int64 `json:"tokens"`
	EmptyDocuments   int64 `json:"empty_documents"`   // left out: text without a token
	DroppedDocuments int64 `json:"dropped_documents"` // left out: PrepareConfig.Keep said no
	Replaced         int64 `json:"replaced"`          // U+FFFD put in for bytes that are not UTF-8
}

func (c *Counts) add(other Counts) {
	c.Documents += other.Documents
	c.Sentences += other.Sentences
	c.Tokens += other.Tokens
	c.EmptyDocuments += other.EmptyDocuments
	c.DroppedDocuments += other.DroppedDocuments
	c.Replaced += other.Replaced
}

func (c *Counts) addShards(shards []shardEntry) {
	for _, s := range shards {
		c.add(Counts{Documents: s.Documents, Sentences: s.Sentences, Tokens: s.Tokens})
	}
}

func (x *index) write(host, dir string) error {
	return writeFileAs(host, filepath.Join(dir, indexName), func(f *os.File) error {
		encoder := json.NewEncoder(f)
		encoder.SetIndent("", " ")
		return encoder.Encode(x)
	})
}

func readIndex(dir string) (*index, error) {
	path := filepath.Join(dir, indexName)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("shard: %w", err)
	}
	x, err := parseIndex(data)
	if err != nil {
		return nil, fmt.Errorf("shard: %s: %w", path, err)
	}
	return x, nil
}

// parseIndex decodes and checks index.json by itself; Open then compares it with the
// files.
func parseIndex(data []byte) (*index, error) {
	var kind struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(data, &kind); err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	if kind.Format != indexFormat {
		return nil, fmt.Errorf("is no index of shards (format %q)", kind.Format)
	}
	if kind.Version != Version {
		return nil, fmt.Errorf("has shard format version %d; this program reads version %d; prepare the corpus again", kind.Version, Version)
	}
	x := new(index)
	if err := json.Unmarshal(data, x); err != nil {
		return nil, err
	}
	return x, x.check()
}

func (x *index) check() error {
	if x.VocabSize <= 0 || int64(x.VocabSize) > math.MaxUint32 || int64(x.TokenBytes) != int64(tokenBytesFor(int64(x.VocabSize))) {
		return fmt.Errorf("has %d bytes a token with a vocabulary of %d", x.TokenBytes, x.VocabSize)
	}
	digest := corpusDigest(x.TokenizerDigest, x.VocabSize, x.Options, x.Sources)
	if x.Digest != hex.EncodeToString(digest[:]) {
		return fmt.Errorf("its digest is not that of its contents; prepare the corpus again")
	}
	if len(x.Shards) == 0 || len(x.Sources) == 0 {
		return fmt.Errorf("lists %d shards of %d sources", len(x.Shards), len(x.Sources))
	}
	var sum Counts
	for i, s := range x.Shards {
		if s.File != shardName(s.Part, s.Number) {
			return fmt.Errorf("names shard %d %q, not %q", i, s.File, shardName(s.Part, s.Number))
		}
		if err := x.checkOrder(i); err != nil {
			return err
		}
		if s.Documents < 1 || s.Sentences < s.Documents || s.Tokens < s.Sentences || s.Tokens > maxTableEntries {
			return fmt.Errorf("%s: counts %d tokens, %d sentences, %d documents: impossible", s.File, s.Tokens, s.Sentences, s.Documents)
		}
		if h := x.header(i); s.Bytes != h.layout().end {
			return fmt.Errorf("%s: says %d bytes, and its counts say %d", s.File, s.Bytes, h.layout().end)
		}
	}
	sum.addShards(x.Shards)
	if c := x.Counts; c.Documents != sum.Documents || c.Sentences != sum.Sentences || c.Tokens != sum.Tokens {
		return fmt.Errorf("its counts are not the sums of its shards'")
	}
	return nil
}

// checkOrder holds shard i to its place: parts rise, though one may have no shard, and a part's shards are numbered from 0.
func (x *index) checkOrder(i int) error {
	s, last := x.Shards[i], shardEntry{Part: -1}
	if i > 0 {
		last = x.Shards[i-1]
	}
	if s.Part == last.Part && s.Number == last.Number+1 || s.Part > last.Part && s.Part <= math.MaxInt32 && s.Number == 0 {
		return nil
	}
	return fmt.Errorf("%s: is shard %d of part %d, behind shard %d of part %d", s.File, s.Number, s.Part, last.Number, last.Part)
}

// header is the header that shard i must have.
func (x *index) header(i int) header {
	s := x.Shards[i]
	digest := x.digest()
	return header{tokenBytes: uint32(x.TokenBytes), part: uint32(s.Part), number: uint32(s.Number), vocabSize: uint32(x.VocabSize),
		tokens: uint64(s.Tokens), sentences: uint64(s.Sentences), documents: uint64(s.Documents),
		corpus: [16]byte(digest[:16])}
}

// digest is the corpus's digest as bytes; zero for a digest that is not hexadecimal,
// which check refuses.
func (x *index) digest() (digest [sha256.Size]byte) {
	raw, _ := hex.DecodeString(x.Digest)
	copy(digest[:], raw)
	return digest
}
