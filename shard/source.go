package shard

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Source is one file of a corpus.
type Source struct {
	Path      string `json:"path"`      // as the caller's patterns name it
	Bytes     int64  `json:"bytes"`     // size of the file
	SHA256    string `json:"sha256"`    // of its content, in hexadecimal; of a remote source "tag:" and its entity tag
	Documents int64  `json:"documents"` // that it has in the shards
}

// listSources expands files, directories (the files of known endings in them) and globs, ** among them, into a list of regular
// files, sorted bytewise and without repetitions.
func listSources(patterns []string) ([]string, error) {
	if len(patterns) == 0 {
		return nil, fmt.Errorf("shard: no files are named; data takes files, directories and globs")
	}
	seen := map[string]bool{}
	var paths []string
	for _, pattern := range patterns {
		matches, err := expand(pattern)
		if err != nil {
			return nil, err
		}
		for _, path := range matches {
			abs, err := filepath.Abs(path)
			if err != nil {
				return nil, fmt.Errorf("shard: %s: %w", path, err)
			}
			if !seen[abs] {
				seen[abs] = true
				paths = append(paths, path)
			}
		}
	}
	sort.Strings(paths)
	return paths, nil
}

// expand lists the files that one pattern names. What exists under that very name is
// taken literally, so a file called "a[1].txt" can be read.
func expand(pattern string) ([]string, error) {
	if pattern == "" {
		return nil, fmt.Errorf("shard: data has an empty path")
	}
	info, err := os.Stat(pattern)
	switch {
	case err == nil && info.IsDir():
		return expandDir(pattern)
	case err == nil && !info.Mode().IsRegular():
		return nil, fmt.Errorf("shard: %s is neither a regular file nor a directory", pattern)
	case err == nil:
		return []string{filepath.Clean(pattern)}, nil
	case !os.IsNotExist(err):
		return nil, fmt.Errorf("shard: %w", err)
	}
	glob := filepath.Glob
	if strings.Contains(pattern, "**") {
		glob = globBelow
	}
	matches, err := glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("shard: data: bad pattern %q: %w", pattern, err)
	}
	files := regular(matches)
	if len(files) == 0 {
		return nil, fmt.Errorf("shard: data: %q matches no file", pattern)
	}
	return files, nil
}

// globBelow is Glob with ** for any number of directories, links among them left out, which might go in circles. A directory that
// cannot be read is an error.
func globBelow(pattern string) ([]string, error) {
	return doublestar.FilepathGlob(pattern, doublestar.WithFailOnIOErrors(), doublestar.WithNoFollow())
}

// expandDir lists the files of a directory whose ending says what they are, not of those below it.
func expandDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("shard: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if inDirectory(entry.Name()) {
			names = append(names, filepath.Join(dir, entry.Name()))
		}
	}
	files := regular(names)
	if len(files) == 0 {
		return nil, fmt.Errorf("shard: data: the directory %s holds no *.txt file, nor any of %s; name other files by a pattern, as in %s",
			dir, directoryEndings, filepath.Join(dir, "*.json"))
	}
	return files, nil
}

// regular keeps the regular files (links to them too). What cannot be looked at
// is kept, so that opening it says why.
func regular(paths []string) []string {
	var files []string
	for _, path := range paths {
		if info, err := os.Stat(path); err != nil || info.Mode().IsRegular() {
			files = append(files, filepath.Clean(path))
		}
	}
	return files
}

// sourceFile is an opened source, as it lies.
type sourceFile interface {
	io.Reader
	io.ReaderAt
	io.Closer
	// Size is in bytes.
	Size() int64
}

// openSource opens what listSources lists.
func openSource(path string) (sourceFile, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, &BadRecord{Path: path, Offset: -1, Reason: ReasonVanished, Hint: "it was there when data was listed; run again", Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("shard: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("shard: %w", err)
	}
	return localFile{f, info.Size()}, nil
}

type localFile struct {
	*os.File
	size int64
}

func (f localFile) Size() int64 { return f.size }
