package checkpoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/ddprun/ddprun/internal/generation"
)

// The files of a checkpoint that this package gives meaning to.
const (
	configFile    = "config.json"
	modelFile     = "model.safetensors"
	optimizerFile = "optimizer.safetensors"
	trainerFile   = "trainer_state.json"
	stateFile     = "ddprun_state.json"
)

// writeEncoded writes what encode returns and brings it to the disk.
func writeEncoded(path string, encode func() ([]byte, error)) error {
	data, err := encode()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}
	return generation.Sync(path)
}

// seal brings everything below dir to the disk and returns what each file is.
func seal(dir string) (map[string]File, error) {
	files := map[string]File{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return generation.Sync(path)
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if files[filepath.ToSlash(name)], err = describe(context.Background(), path); err != nil {
			return err
		}
		return generation.Sync(path)
	})
	return files, err
}

// describe reads a regular file for its size and checksum.
func describe(ctx context.Context, path string) (File, error) {
	if err := checkRegular(path); err != nil {
		return File{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, reading{ctx, f})
	if err != nil {
		return File{}, err
	}
	return File{Size: size, SHA256: hex.EncodeToString(hash.Sum(nil))}, nil
}

// reading is a file whose reading the end of ctx ends.
type reading struct {
	ctx  context.Context
	file *os.File
}

func (r reading) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.file.Read(p)
}

// readFile reads a regular file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	if err := checkRegular(path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: is larger than %d bytes, which no such file is", path, limit)
	}
	return data, err
}

// checkRegular keeps a pipe or a device from being opened, which could block for ever.
func checkRegular(path string) error {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: is not a regular file", path)
	}
	return err
}

// move renames within an output directory and brings both directories' entries to the disk.
func move(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return errors.Join(generation.Sync(filepath.Dir(to)), generation.Sync(filepath.Dir(from)))
}

// unread tells whether an error of something in the directory dir says that it cannot be read, for an I/O error or the want of a permission, and nothing of what is there: it is
// not damaged then, as far as anybody knows, and not for this program to pass over or to delete. A directory that was deleted meanwhile is not unread.
func unread(dir string, err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && isDir(dir) && !slices.Contains([]syscall.Errno{syscall.ENOENT, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.ENAMETOOLONG}, errno)
}

// isFile tells whether a regular file lies there.
func isFile(path string) bool { return checkRegular(path) == nil }

// isDir tells whether a directory, not a link to one, lies there.
func isDir(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}
