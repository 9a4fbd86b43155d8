package hf

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mapping is a file mapped read-only.
type mapping struct {
	path string
	data []byte
}

func mapFile(path string) (*mapping, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // a mapping outlives its descriptor
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if size == 0 || int64(int(size)) != size {
		return nil, fmt.Errorf("%s: has %d bytes and cannot be a file of weights", path, size)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("%s: mmap: %w", path, err)
	}
	return &mapping{path: path, data: data}, nil
}

// close unmaps the file. A second call does nothing.
func (m *mapping) close() error {
	if m.data == nil {
		return nil
	}
	data := m.data
	m.data = nil
	if err := unix.Munmap(data); err != nil {
		return fmt.Errorf("%s: munmap: %w", m.path, err)
	}
	return nil
}
