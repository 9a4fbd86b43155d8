package shard

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
)

// readsPerTidy is how many reads lie between two looks at what other processes have removed.
const readsPerTidy = 4096

// pins counts the readers of a mapping, so that none is unmapped under one.
type pins struct {
	readers atomic.Int64 // below 0: unmapped
	read    atomic.Bool  // since the last tidy
}

// pin takes part in the mapping until release; false: it is unmapped.
func (p *pins) pin() bool {
	for {
		n := p.readers.Load()
		if n < 0 {
			return false
		}
		if p.readers.CompareAndSwap(n, n+1) {
			if !p.read.Load() {
				p.read.Store(true)
			}
			return true
		}
	}
}

func (p *pins) release() { p.readers.Add(-1) }

// retire ends the mapping's use, unless somebody reads.
func (p *pins) retire() bool { return p.readers.CompareAndSwap(0, -1) }

// checkCache refuses a limit that some shard goes beyond.
func (c *Corpus) checkCache() error {
	if c.cfg.CacheBytes == 0 {
		return nil
	}
	largest := slices.MaxFunc(c.index.Shards, func(a, b shardEntry) int { return cmp.Compare(a.Bytes, b.Bytes) })
	if largest.Bytes > c.cfg.CacheBytes {
		return fmt.Errorf("shard: shards_cache_bytes is %d, and %s has %d bytes: set it to that at least, better to a good part of all shards",
			c.cfg.CacheBytes, largest.File, largest.Bytes)
	}
	return nil
}

// makeRoom removes the shards that were not read from for the longest time, until another one has room in the directory. A removed one that is mapped
// can be read on; its space comes back when each process that has mapped it tidies. The caller holds the directory's lock.
func (c *Corpus) makeRoom(bytes int64) error {
	c.touch()
	type file struct {
		path string
		info os.FileInfo
	}
	var files []file
	for _, entry := range c.index.Shards {
		path := filepath.Join(c.dir, entry.File)
		tmp := filepath.Join(c.dir, fetchPrefix+thisHost()+"-"+entry.File) // of a killed process
		if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if info, err := os.Stat(path); err == nil {
			files = append(files, file{path, info})
			bytes += info.Size()
		}
	}
	slices.SortFunc(files, func(a, b file) int { return a.info.ModTime().Compare(b.info.ModTime()) })
	for _, f := range files {
		if bytes <= c.cfg.CacheBytes {
			break
		}
		if err := os.Remove(f.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		bytes -= f.info.Size()
	}
	c.unmapRemoved()
	return nil
}

// tidy tells other processes what this one reads from, and unmaps what they have removed.
func (c *Corpus) tidy() {
	if !c.mu.TryLock() {
		return // somebody maps or closes; the next time will do
	}
	defer c.mu.Unlock()
	c.touch()
	c.unmapRemoved()
}

// touch sets the times of the files that were read from since the last time.
func (c *Corpus) touch() {
	now := time.Now()
	for i := range c.shards {
		if s := c.shards[i].Load(); s != nil && s.read.Swap(false) {
			_ = os.Chtimes(s.path, now, now) // it may be removed
		}
	}
}

// unmapRemoved unmaps shards whose file is there no more, where nobody reads them. The caller holds mu.
func (c *Corpus) unmapRemoved() {
	for i := range c.shards {
		s := c.shards[i].Load()
		if s == nil {
			continue
		}
		if info, err := os.Stat(s.path); err == nil && os.SameFile(info, s.info) || !s.retire() {
			continue
		}
		c.shards[i].Store(nil)
		_ = s.close() // a mapping that was read
	}
}
