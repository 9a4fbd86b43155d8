package shard

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Remote reads sources that lie behind URLs.
type Remote interface {
	// IsURL says whether path is one that it reads, rather than a file's.
	IsURL(path string) bool
	// List returns the names of what a URL or a pattern stands for, at least one; of what lies below a prefix, those whose last element
	// keep wants. Names hold no credentials: they are logged, and kept in the index.
	List(ctx context.Context, pattern string, keep func(base string) bool) ([]string, error)
	// Stat returns a source's size and a tag that another content does not have.
	Stat(ctx context.Context, name string) (bytes int64, tag string, err error)
	// Open opens the version that Stat saw last; reading another one is an error whose method SourceChanged says true.
	Open(ctx context.Context, name string) (RemoteFile, error)
}

// RemoteFile is an opened source; Size is in bytes.
type RemoteFile = interface {
	io.Reader
	io.ReaderAt
	io.Closer
	Size() int64
}

// remoteTag comes before the tag that a remote source has in the place of its hash, so that neither is taken for the other.
const remoteTag = "tag:"

// isRemote says whether a source lies behind a URL.
func (cfg *PrepareConfig) isRemote(path string) bool {
	return cfg.Remote != nil && cfg.Remote.IsURL(path)
}

// listAll lists what Paths names, on this node and elsewhere, sorted bytewise and without repetitions.
func (cfg *PrepareConfig) listAll(ctx context.Context) ([]string, error) {
	var local, paths []string
	for _, path := range cfg.Paths {
		if !cfg.isRemote(path) {
			local = append(local, path)
			continue
		}
		names, err := cfg.Remote.List(ctx, path, inDirectory)
		if err != nil {
			return nil, fmt.Errorf("shard: data: %w", err)
		}
		paths = append(paths, names...)
	}
	if len(local) > 0 || len(paths) == 0 {
		files, err := listSources(local)
		if err != nil {
			return nil, err
		}
		paths = append(paths, files...)
	}
	slices.SortStableFunc(paths, strings.Compare)
	return slices.Compact(paths), nil
}

// lookRemote asks for a source's version.
func (cfg *PrepareConfig) lookRemote(ctx context.Context, path string) (Source, error) {
	bytes, tag, err := cfg.Remote.Stat(ctx, path)
	if err != nil {
		return Source{}, fmt.Errorf("shard: %w", err)
	}
	return Source{Path: path, Bytes: bytes, SHA256: remoteTag + tag}, nil
}
