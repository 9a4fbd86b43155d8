package hf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"unicode/utf8"
)

// Limits on the files that are read into memory. The largest known honest ones
// are far below: tokenizer.json of 256k-token models is about 35 MB.
const (
	maxConfigBytes    = 16 << 20
	maxIndexBytes     = 64 << 20
	maxTokenizerBytes = 256 << 20
)

// readFile reads a regular file of at most limit bytes. The limit holds however
// the file's size is reported.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: larger than %d MiB, the most that is read of such a file", path, limit>>20)
	}
	return data, nil
}

// readText is readFile for a file that must be UTF-8.
func readText(path string, limit int64) ([]byte, error) {
	data, err := readFile(path, limit)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%s: not UTF-8", path)
	}
	return data, nil
}

// openRegular opens path, following links, and refuses what is not a regular
// file: opening a pipe would wait for ever.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err // a PathError names the path
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	return os.Open(path)
}

// exists says whether dir has an entry called name. Anything but "it is not
// there" (a directory without permission) counts as present, so that opening it
// reports the reason.
func exists(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, name))
	return !errors.Is(err, os.ErrNotExist)
}
