package generation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WriteFile puts a small file (outcome.json) below output_dir/.ddprun: a reader finds the earlier content or all of data, and data is on the disk when
// WriteFile returns. It does not ask who may write; the content should name its generation.
func WriteFile(outputDir, name string, data []byte) error {
	dir := filepath.Join(outputDir, privateDir)
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	temporary, err := writeTemporary(dir, ".new-"+name+"-*", data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return Sync(dir)
}

// ReadFile returns what WriteFile wrote; nil where there is none.
func ReadFile(outputDir, name string) ([]byte, error) {
	data, err := readFile(filepath.Join(outputDir, privateDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// writeTemporary makes a file of a name that nobody has, brings it to the disk and returns its path. On an error nothing is left.
func writeTemporary(dir, pattern string, data []byte) (string, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = errors.Join(f.Chmod(0o644), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// Sync waits until a file, or a directory's entries, are on the disk.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	// A file system that cannot sync directories (some network ones) says EINVAL and has nothing to sync.
	if err := f.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}
