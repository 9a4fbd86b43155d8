package shard

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// hashCacheName is a file that remembers the hashes of sources by path, size and
// modification time, so that a second run need not read the texts.
const hashCacheName = "sources.json"

// racy is how old a modification must be when a file is hashed for its time to
// vouch for its content: file systems keep times coarsely.
const racy = 2 * time.Second

type cachedHash struct {
	Bytes   int64  `json:"bytes"`
	ModTime int64  `json:"mtime_ns"`
	SHA256  string `json:"sha256"`
}

// hashCache maps absolute paths to hashes. It only saves work: one that cannot be
// read or written costs time, never correctness.
type hashCache struct {
	path    string
	entries map[string]cachedHash
	changed bool
}

func openHashCache(dir string) *hashCache {
	c := &hashCache{path: filepath.Join(dir, hashCacheName)}
	if data, err := os.ReadFile(c.path); err != nil || json.Unmarshal(data, &c.entries) != nil || c.entries == nil {
		c.entries = map[string]cachedHash{}
	}
	return c
}

func (c *hashCache) save() {
	if !c.changed {
		return
	}
	_ = writeFileAtomic(c.path, func(f *os.File) error { return json.NewEncoder(f).Encode(c.entries) })
}

// sources looks at every path and returns its size and hash. With hash false, files
// that the cache does not know stay without one, and known is false.
func (c *hashCache) sources(paths []string, hash bool) (sources []Source, known bool, err error) {
	known = true
	for _, path := range paths {
		source, err := c.source(path, hash)
		if err != nil {
			return nil, false, err
		}
		known = known && source.SHA256 != ""
		sources = append(sources, source)
	}
	return sources, known, nil
}

func (c *hashCache) source(path string, hash bool) (Source, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Source{}, fmt.Errorf("shard: %s: %w", path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return Source{}, fmt.Errorf("shard: %w", err)
	}
	source := Source{Path: path, Bytes: info.Size()}
	mtime := info.ModTime()
	if e, ok := c.entries[abs]; ok && e.Bytes == info.Size() && e.ModTime == mtime.UnixNano() {
		source.SHA256 = e.SHA256
		return source, nil
	}
	if !hash {
		return source, nil
	}
	hashed := time.Now()
	if source.SHA256, source.Bytes, err = hashFile(path); err != nil {
		return Source{}, err
	}
	if source.Bytes == info.Size() && hashed.Sub(mtime) > racy {
		c.entries[abs] = cachedHash{Bytes: source.Bytes, ModTime: mtime.UnixNano(), SHA256: source.SHA256}
		c.changed = true
	}
	return source, nil
}

func hashFile(path string) (sum string, bytes int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("shard: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if bytes, err = io.Copy(h, f); err != nil {
		return "", 0, fmt.Errorf("shard: read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), bytes, nil
}

// options are what shards depend on beside the texts and the tokenizer.
type options struct {
	TextUnit       TextUnit       `json:"text_unit"`
	TextField      string         `json:"text_field,omitempty"` // unless it is the default
	SentenceUnit   SentenceUnit   `json:"sentence_unit"`
	Segmenter      string         `json:"segmenter,omitempty"`
	EncodingErrors EncodingErrors `json:"encoding_errors"`
	Keep           string         `json:"keep,omitempty"`
	ShardBytes     int64          `json:"shard_bytes"`
}

// corpusDigest names a corpus by everything that its shards depend on. Every part is
// written with its length (as JSON), so no two inputs look alike.
func corpusDigest(tokenizer string, vocabSize int, opts options, sources []Source) [sha256.Size]byte {
	type input struct {
		Path   string
		Bytes  int64
		SHA256 string
	}
	inputs := make([]input, len(sources))
	for i, s := range sources {
		inputs[i] = input{s.Path, s.Bytes, s.SHA256}
	}
	h := sha256.New()
	// Encoding strings and numbers into a hash cannot fail.
	_ = json.NewEncoder(h).Encode([]any{"ddprun shards", Version, tokenizer, vocabSize, opts, inputs})
	return [sha256.Size]byte(h.Sum(nil))
}

// contentDigest is corpusDigest without what no sample depends on: the names of the
// files and the size of shards.
func (x *index) contentDigest() [sha256.Size]byte {
	opts := x.Options
	opts.ShardBytes = 0
	sources := make([]Source, len(x.Sources))
	for i, s := range x.Sources {
		sources[i] = Source{Bytes: s.Bytes, SHA256: s.SHA256}
	}
	return corpusDigest(x.TokenizerDigest, x.VocabSize, opts, sources)
}
