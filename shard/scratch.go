package shard

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// scratch is room on disk that is mapped for reading and writing: what grows with the number of documents lies there instead of in memory. Its file
// has no name, so it goes with the process.
type scratch struct {
	path string // of its directory, for errors
	data []byte
}

// newScratch makes room for so many bytes, all zero.
func newScratch(dir string, bytes int64) (*scratch, error) {
	s := &scratch{path: dir}
	if bytes == 0 {
		return s, nil
	}
	f, err := os.CreateTemp(dir, tmpPrefix+"scratch-*")
	if err != nil {
		return nil, fmt.Errorf("shard: %w", err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, os.ErrNotExist) { // another node that sweeps may have been faster
		return nil, fmt.Errorf("shard: %w", err)
	}
	// Room is taken now: a disk that is full later would end the process on a write to memory.
	err = unix.Fallocate(int(f.Fd()), 0, 0, bytes)
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = f.Truncate(bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("shard: %d bytes of scratch room in %s: %w", bytes, dir, err)
	}
	if s.data, err = unix.Mmap(int(f.Fd()), 0, int(bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("shard: map %d bytes of scratch room in %s: %w", bytes, dir, err)
	}
	return s, nil
}

func (s *scratch) u64(i int64) uint64       { return le.Uint64(s.data[8*i:]) }
func (s *scratch) setU64(i int64, v uint64) { le.PutUint64(s.data[8*i:], v) }

func (s *scratch) close() {
	if s != nil && s.data != nil {
		_ = unix.Munmap(s.data) // it was mapped by us: this cannot fail
		s.data = nil
	}
}
