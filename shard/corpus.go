package shard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// ErrClosed is returned by a Corpus or Samples that has been closed.
var ErrClosed = errors.New("shard: closed")

// Verify says when the checksums of shards are compared.
type Verify int

const (
	VerifyFirstUse Verify = iota // when a shard is first read from: once a process
	VerifyOpen                   // all of them in Open
	VerifyNever                  // sizes and tables are still checked
)

// OpenConfig is how a corpus is opened; its zero value is the usual way.
type OpenConfig struct {
	Verify Verify
	// Remote and From (Report.From), if From is set, are where shards that are not in the directory are fetched from on first use.
	Remote Remote
	From   string
	// CacheBytes, if above 0, is how much the directory's shards may take together, if they can be fetched again: those that were not read from for the longest time go before another is
	// fetched.
	CacheBytes int64
}

// Corpus is a prepared corpus. Its shards are mapped when they are first read from,
// so a rank opens only those that its lanes touch. Several goroutines may read it.
type Corpus struct {
	dir    string
	cfg    OpenConfig
	index  *index
	shards []atomic.Pointer[shardFile]

	mu     sync.Mutex // mapping and closing
	closed bool
	reads  atomic.Int64
}

// Open opens the directory that Prepare made (Report.Dir). It reads index.json and
// looks at the size of every shard; the caller closes the Corpus.
func Open(dir string, cfg OpenConfig) (*Corpus, error) {
	x, err := readIndex(dir)
	if err != nil {
		return nil, err
	}
	if cfg.From == "" {
		cfg.CacheBytes = 0 // what cannot come again is never removed, and missed at once
	}
	c := &Corpus{dir: dir, cfg: cfg, index: x, shards: make([]atomic.Pointer[shardFile], len(x.Shards))}
	if err := c.checkCache(); err != nil {
		return nil, err
	}
	for i, entry := range x.Shards {
		if cfg.From != "" {
			if cfg.Verify != VerifyOpen {
				continue // fetch looks at the size
			}
			if err := c.verify(i); err != nil {
				return nil, errors.Join(err, c.Close())
			}
			continue
		}
		path := filepath.Join(dir, entry.File)
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("shard: %w; %s", err, hintDamaged)
		}
		if info.Size() != entry.Bytes {
			return nil, fmt.Errorf("shard: %s has %d bytes and should have %d; %s", path, info.Size(), entry.Bytes, hintDamaged)
		}
		if cfg.Verify == VerifyOpen {
			if err := c.verify(i); err != nil {
				return nil, errors.Join(err, c.Close())
			}
		}
	}
	return c, nil
}

// Digest names everything that the shards depend on, in hexadecimal.
func (c *Corpus) Digest() string { return c.index.Digest }

// ContentDigest names the documents and their order, in hexadecimal: unlike Digest
// it stays the same where the files have moved.
func (c *Corpus) ContentDigest() string { return fmt.Sprintf("%x", c.index.contentDigest()) }

// TokenizerDigest is the Encoder's Digest that the shards were made with.
func (c *Corpus) TokenizerDigest() string { return c.index.TokenizerDigest }

// VocabSize is greater than every token.
func (c *Corpus) VocabSize() int { return c.index.VocabSize }

// Counts are the sizes of the corpus.
func (c *Corpus) Counts() Counts { return c.index.Counts }

// Sources are the files that the corpus was made of. The caller only reads them.
func (c *Corpus) Sources() []Source { return c.index.Sources }

// verify maps shard i, which checks it.
func (c *Corpus) verify(i int) error {
	s, err := c.shard(i)
	if err == nil {
		s.release()
	}
	return err
}

// shard returns shard i, fetching and mapping it on first use. The caller releases it.
func (c *Corpus) shard(i int) (*shardFile, error) {
	if c.cfg.CacheBytes > 0 && c.reads.Add(1)%readsPerTidy == 0 {
		c.tidy()
	}
	if s := c.shards[i].Load(); s != nil && s.pin() {
		return s, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if s := c.shards[i].Load(); s != nil && s.pin() {
		return s, nil
	}
	for {
		if c.cfg.From != "" {
			if err := c.fetch(i); err != nil {
				return nil, err
			}
		}
		s, err := openShard(filepath.Join(c.dir, c.index.Shards[i].File), c.index, i, c.cfg.Verify == VerifyNever)
		if c.cfg.CacheBytes > 0 && errors.Is(err, os.ErrNotExist) {
			continue // another process has made room meanwhile
		}
		if err != nil {
			return nil, err
		}
		s.pin()
		c.shards[i].Store(s)
		return s, nil
	}
}

// Close unmaps the shards. Nothing may be reading the Corpus or Samples of it.
func (c *Corpus) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var errs []error
	for i := range c.shards {
		if s := c.shards[i].Swap(nil); s != nil {
			errs = append(errs, s.close())
		}
	}
	return errors.Join(errs...)
}
