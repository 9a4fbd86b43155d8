package shard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// IsPrepared says whether path is a directory that Prepare has made.
func IsPrepared(path string) bool {
	info, err := os.Stat(filepath.Join(path, indexName))
	return err == nil && info.Mode().IsRegular()
}

// prepared returns the index of the prepared directory that Paths names, or nil; from is the index's name if it lies behind a URL. Its
// shards must be what these options would make.
func (cfg *PrepareConfig) prepared(ctx context.Context, opts options) (x *index, from string, err error) {
	for _, path := range cfg.Paths {
		if cfg.isRemote(path) {
			if x, from, err = cfg.remotePrepared(ctx, path); err != nil {
				return nil, "", err
			}
		} else if IsPrepared(path) {
			if x, err = readIndex(path); err != nil {
				return nil, "", err
			}
		}
		if x == nil {
			continue
		}
		if from != "" {
			path, _, _ = strings.Cut(path, "?") // no error shows a URL's query
		}
		if len(cfg.Paths) > 1 {
			return nil, "", fmt.Errorf("shard: %s holds prepared shards, which cannot be mixed with other files in one list; "+
				"make it an entry of data of its own", path)
		}
		if err := cfg.fits(x, opts); err != nil {
			return nil, "", fmt.Errorf("shard: %s %w", path, err)
		}
		return x, from, nil
	}
	return nil, "", nil
}

// fits refuses shards that were made otherwise than asked for, where a sample depends on it.
func (cfg *PrepareConfig) fits(x *index, opts options) error {
	if x.TokenizerDigest != cfg.Encoder.Digest() || x.VocabSize != cfg.Encoder.VocabSize() {
		return fmt.Errorf("was prepared with another tokenizer (vocabulary %d, digest %.12s) than the model's (%d, %.12s); "+
			"prepare the text with this model's", x.VocabSize, x.TokenizerDigest, cfg.Encoder.VocabSize(), cfg.Encoder.Digest())
	}
	was := x.Options
	for _, o := range []struct{ key, was, is string }{
		{"text_unit", string(was.TextUnit), string(opts.TextUnit)},
		{"sentence_unit", string(was.SentenceUnit), string(opts.SentenceUnit)},
		{"sentence_unit auto's segmenter", was.Segmenter, opts.Segmenter},
		{"encoding_errors", string(was.EncodingErrors), string(opts.EncodingErrors)},
	} {
		if o.was != o.is {
			return fmt.Errorf("was prepared with %s %q, and the configuration says %q; change it, or prepare the text again", o.key, o.was, o.is)
		}
	}
	return nil
}

// isStdin says whether standard input is to be prepared.
func (cfg *PrepareConfig) isStdin() bool { return len(cfg.Paths) == 1 && cfg.Paths[0] == "-" }

// list returns the sources' paths, in order.
func (cfg *PrepareConfig) list(ctx context.Context) ([]string, error) {
	if cfg.spool != "" {
		return []string{filepath.Base(cfg.spool)}, nil
	}
	for _, path := range cfg.Paths {
		if path == "-" {
			return nil, fmt.Errorf("shard: data: standard input (-) goes with no other path, and only in ddprun prepare")
		}
	}
	return cfg.listAll(ctx)
}

// open opens a source that list has listed.
func (cfg *PrepareConfig) open(ctx context.Context, path string) (sourceFile, error) {
	if cfg.isRemote(path) {
		return cfg.Remote.Open(ctx, path)
	}
	return openSource(cfg.lies(path))
}

// lies is where a source lies.
func (cfg *PrepareConfig) lies(path string) string {
	if cfg.spool != "" {
		return cfg.spool
	}
	return path
}

// spoolStdin writes standard input to a file, since it is read twice. The file's own directory is removed by remove, or, if this
// process is killed, once it has not been touched for long.
func (cfg *PrepareConfig) spoolStdin(ctx context.Context) (remove func(), err error) {
	if cfg.Stdin == nil {
		return nil, fmt.Errorf("shard: data: - is standard input, which only ddprun prepare reads; prepare it there, and name the directory that it prints")
	}
	if cfg.StdinFormat == "" {
		cfg.StdinFormat = "txt"
	}
	if strings.ContainsAny(cfg.StdinFormat, "/\\") {
		return nil, fmt.Errorf("shard: the format of standard input is %q; it is the ending of a file's name, such as jsonl or txt.gz", cfg.StdinFormat)
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("shard: %w", err)
	}
	dir, err := os.MkdirTemp(cfg.Dir, tmpPrefix+"stdin-*")
	if err != nil {
		return nil, fmt.Errorf("shard: %w", err)
	}
	remove = func() { os.RemoveAll(dir) }
	cfg.spool = filepath.Join(dir, "stdin."+strings.TrimPrefix(cfg.StdinFormat, "."))
	if err := copyInput(ctx, cfg.Stdin, cfg.spool); err != nil {
		remove()
		return nil, fmt.Errorf("shard: standard input: %w", err)
	}
	return remove, nil
}

// copyInput copies until ctx ends; a read that waits for more then is left behind.
func copyInput(ctx context.Context, r io.Reader, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(f, r)
		done <- errors.Join(err, f.Close())
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
