package shard

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// mapFile maps a file of exactly size bytes for reading.
func mapFile(path string, size int64) ([]byte, os.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("shard: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("shard: %w", err)
	}
	if info.Size() != size {
		return nil, nil, fmt.Errorf("shard: %s has %d bytes and should have %d; %s", path, info.Size(), size, hintDamaged)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("shard: map %s: %w", path, err)
	}
	return data, info, nil
}

const hintDamaged = "it is damaged: remove its directory and prepare the corpus again"

// faultError turns the fault that reading a mapped file raises, when the file was
// cut short under us or its disk fails, into an error. It is deferred by
// whatever reads a mapping, after debug.SetPanicOnFault:
//
//	defer faultError(path, debug.SetPanicOnFault(true), &err)
func faultError(path string, before bool, err *error) {
	debug.SetPanicOnFault(before)
	switch r := recover().(type) {
	case nil:
	case interface {
		runtime.Error
		Addr() uintptr
	}:
		*err = fmt.Errorf("shard: %s cannot be read any more (%w); was it cut short while in use?", path, r)
	default:
		panic(r)
	}
}
