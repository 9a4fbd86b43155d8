package shard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
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
	cfg  *PrepareConfig
	path string

	mu      sync.Mutex
	entries map[string]cachedHash
	fresh   map[string]cachedHash // those that this process has made
	saved   time.Time
	// readOnly: nothing is written.
	readOnly bool
}

func openHashCache(cfg *PrepareConfig) *hashCache {
	c := &hashCache{cfg: cfg, path: filepath.Join(cfg.Dir, hashCacheName), entries: map[string]cachedHash{}, fresh: map[string]cachedHash{},
		saved: time.Now()}
	c.merge()
	return c
}

// save writes what this process knows and, where another node shares the directory, what that one does.
func (c *hashCache) save() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.fresh) == 0 || c.readOnly {
		return
	}
	c.merge()
	_ = writeFileAs(c.cfg.host, c.path, func(f *os.File) error { return json.NewEncoder(f).Encode(c.entries) })
	c.saved = time.Now()
}

// merge reads the file again under what this process has found out.
func (c *hashCache) merge() {
	var entries map[string]cachedHash
	if data, err := os.ReadFile(c.path); err != nil || json.Unmarshal(data, &entries) != nil || entries == nil {
		return
	}
	maps.Copy(entries, c.fresh)
	c.entries = entries
}

// known looks at every path and returns its size, and its hash where the cache has it; otherwise known is false.
func (c *hashCache) known(ctx context.Context, paths []string) (sources []Source, known bool, err error) {
	known = true
	for _, path := range paths {
		source, _, err := c.look(ctx, path)
		if err != nil {
			return nil, false, err
		}
		known = known && source.SHA256 != ""
		sources = append(sources, source)
	}
	return sources, known, nil
}

// look returns a source as the cache knows it.
func (c *hashCache) look(ctx context.Context, path string) (Source, time.Time, error) {
	if c.cfg.isRemote(path) {
		source, err := c.cfg.lookRemote(ctx, path)
		return source, time.Time{}, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return Source{}, time.Time{}, fmt.Errorf("shard: %s: %w", path, err)
	}
	info, err := os.Stat(c.cfg.lies(path))
	if errors.Is(err, os.ErrNotExist) {
		return Source{}, time.Time{}, vanished(path, err)
	}
	if err != nil {
		return Source{}, time.Time{}, fmt.Errorf("shard: %w", err)
	}
	source := Source{Path: path, Bytes: info.Size()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[abs]; ok && e.Bytes == info.Size() && e.ModTime == info.ModTime().UnixNano() {
		source.SHA256 = e.SHA256
	}
	return source, info.ModTime(), nil
}

// mergeEvery is how often nodes that hash the same sources look at what the others have.
const mergeEvery = 5 * time.Second

// hash returns every source with its hash; several at a time are read. Nodes that share the directory begin at places of their own and
// pass on what they have.
func (c *hashCache) hash(ctx context.Context, paths []string, m *meter) ([]Source, error) {
	sources := make([]Source, len(paths))
	var total int64
	for i, path := range paths {
		source, _, err := c.look(ctx, path)
		if err != nil {
			return nil, err
		}
		sources[i] = source
		total += source.Bytes
	}
	m.begin(true, total, 0)
	h := fnv.New32a()
	h.Write([]byte(c.cfg.host))
	from := int(h.Sum32() % uint32(len(paths)))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(paths)) {
		group.Go(func() {
			for n := int(next.Add(1)) - 1; n < len(paths) && ctx.Err() == nil; n = int(next.Add(1)) - 1 {
				i := (from + n) % len(paths)
				var err error
				if sources[i], err = c.hashOne(ctx, paths[i], m); err != nil {
					cancel(err)
				}
			}
		})
	}
	group.Wait()
	c.save()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return sources, nil
}

func (c *hashCache) hashOne(ctx context.Context, path string, m *meter) (Source, error) {
	source, mtime, err := c.look(ctx, path)
	if err != nil {
		return Source{}, err
	}
	if source.SHA256 != "" {
		m.read(int(source.Bytes))
		return source, nil
	}
	hashed, size := time.Now(), source.Bytes
	if source.SHA256, source.Bytes, err = c.hashFile(ctx, path, m); err != nil {
		return Source{}, err
	}
	if source.Bytes == size && hashed.Sub(mtime) > racy {
		c.remember(path, cachedHash{Bytes: source.Bytes, ModTime: mtime.UnixNano(), SHA256: source.SHA256})
	}
	return source, nil
}

func (c *hashCache) remember(path string, entry cachedHash) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return
	}
	c.mu.Lock()
	c.entries[abs], c.fresh[abs] = entry, entry
	due := time.Since(c.saved) > mergeEvery
	c.mu.Unlock()
	if due {
		c.save()
	}
}

func (c *hashCache) hashFile(ctx context.Context, path string, m *meter) (sum string, bytes int64, err error) {
	f, err := c.cfg.open(ctx, path)
	if errors.Is(err, os.ErrNotExist) {
		return "", 0, vanished(path, err)
	}
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	if bytes, err = io.CopyBuffer(h, onlyReader{meteredFile{ctx, f, m}}, make([]byte, 256<<10)); err != nil {
		return "", 0, fmt.Errorf("shard: read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), bytes, nil
}

// onlyReader hides every other method, so that copying goes through Read.
type onlyReader struct{ io.Reader }

// options are what shards depend on beside the texts and the tokenizer.
type options struct {
	TextUnit       TextUnit       `json:"text_unit"`
	TextField      string         `json:"text_field,omitempty"` // unless it is the default
	SentenceUnit   SentenceUnit   `json:"sentence_unit"`
	Segmenter      string         `json:"segmenter,omitempty"`
	EncodingErrors EncodingErrors `json:"encoding_errors"`
	Keep           string         `json:"keep,omitempty"`
	MaxDocument    int64          `json:"max_document_bytes"`
	ShardBytes     int64          `json:"shard_bytes"`
	PartBytes      int64          `json:"part_bytes"`
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
// files and the sizes of shards and parts.
func (x *index) contentDigest() [sha256.Size]byte {
	opts := x.Options
	opts.ShardBytes, opts.PartBytes = 0, 0
	sources := make([]Source, len(x.Sources))
	for i, s := range x.Sources {
		sources[i] = Source{Bytes: s.Bytes, SHA256: s.SHA256}
	}
	return corpusDigest(x.TokenizerDigest, x.VocabSize, opts, sources)
}
