package shard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// remoteDir is where, in the directory of the shards, those of prepared corpora behind URLs are kept.
const remoteDir = "remote"

// fetchPrefix begins the names of files that are being fetched. It is not tmpPrefix, since whoever makes samples removes those.
const fetchPrefix = ".fetch-"

// remotePrepared reads the index of the prepared corpus that lies at a URL; from is the index's name. It returns nil where no index lies:
// then the URL is one of texts, and what is wrong with it is found when they are listed.
func (cfg *PrepareConfig) remotePrepared(ctx context.Context, url string) (x *index, from string, err error) {
	base, query, hasQuery := strings.Cut(url, "?")
	base = strings.TrimSuffix(base, "/")
	if strings.ContainsAny(base, "*[{") || path.Ext(base[strings.LastIndexByte(base, '/')+1:]) != "" {
		return nil, "", nil
	}
	at := base + "/" + indexName
	if hasQuery {
		at += "?" + query
	}
	names, err := cfg.Remote.List(ctx, at, func(string) bool { return false })
	if err != nil || len(names) != 1 {
		return nil, "", ctx.Err()
	}
	from = names[0]
	if _, _, err := cfg.Remote.Stat(ctx, from); err != nil {
		return nil, "", ctx.Err()
	}
	f, err := cfg.Remote.Open(ctx, from)
	if err != nil {
		return nil, "", fmt.Errorf("shard: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, "", fmt.Errorf("shard: %w", err)
	}
	var kind struct {
		Format string `json:"format"`
	}
	if json.Unmarshal(data, &kind) != nil || kind.Format != indexFormat {
		return nil, "", nil
	}
	if x, err = parseIndex(data); err != nil {
		return nil, "", fmt.Errorf("shard: %s: %w", base, err)
	}
	return x, from, nil
}

// keepIndex writes the index of a corpus behind a URL into a directory of its own, where its shards are fetched on first use.
func (cfg *PrepareConfig) keepIndex(x *index) (dir string, err error) {
	dir = corpusDir(filepath.Join(cfg.Dir, remoteDir), x.digest())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("shard: %w", err)
	}
	made, err := os.MkdirTemp(dir, fetchPrefix+cfg.host+"-")
	if err != nil {
		return "", fmt.Errorf("shard: %w", err)
	}
	defer os.RemoveAll(made)
	if err := x.write(cfg.host, made); err != nil {
		return "", fmt.Errorf("shard: %w", err)
	}
	if err := os.Rename(filepath.Join(made, indexName), filepath.Join(dir, indexName)); err != nil {
		return "", fmt.Errorf("shard: %w", err)
	}
	return dir, nil
}

// fetch brings a shard from beside the index at a URL into the directory, if it is not there. One process of a node does, others wait. What a
// killed one has left is written over. Where the directory has a limit, one shard comes at a time.
func (c *Corpus) fetch(i int) error {
	r, from, dir, entry := c.cfg.Remote, c.cfg.From, c.dir, c.index.Shards[i]
	to := filepath.Join(dir, entry.File)
	if there(to, entry.Bytes) {
		return nil
	}
	ctx, lock := context.Background(), lockName+"-"+thisHost()
	if c.cfg.CacheBytes == 0 {
		lock += "-" + entry.File
	}
	unlock, err := lockFile(ctx, filepath.Join(dir, lock), nil)
	if err != nil {
		return err
	}
	defer unlock()
	if there(to, entry.Bytes) {
		return nil
	}
	if c.cfg.CacheBytes > 0 {
		if err := c.makeRoom(entry.Bytes); err != nil {
			return fmt.Errorf("shard: %w", err)
		}
	}
	at, query, hasQuery := strings.Cut(from, "?")
	at = strings.TrimSuffix(at, indexName) + entry.File
	name := at // no error shows a URL's query
	if hasQuery {
		at += "?" + query
	}
	f, err := r.Open(ctx, at)
	if err != nil {
		return fmt.Errorf("shard: %w", err)
	}
	defer f.Close()
	if f.Size() != entry.Bytes {
		return fmt.Errorf("shard: %s has %d bytes and should have %d; upload the prepared directory again", name, f.Size(), entry.Bytes)
	}
	tmp := filepath.Join(dir, fetchPrefix+thisHost()+"-"+entry.File)
	if err := download(f, tmp, name, entry); err != nil {
		os.Remove(tmp)
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return fmt.Errorf("shard: no space for %s (%d bytes): %w; free some, or set shards_dir to another disk", name, entry.Bytes, err)
		}
		return fmt.Errorf("shard: %w", err)
	}
	if err := os.Rename(tmp, to); err != nil {
		return fmt.Errorf("shard: %w", err)
	}
	return nil
}

func there(path string, bytes int64) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() == bytes
}

// download writes a shard to tmp and compares its checksum.
func download(r io.Reader, tmp, name string, entry shardEntry) (err error) {
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	crc := crc32.New(castagnoli)
	if _, err := io.Copy(io.MultiWriter(f, crc), r); err != nil {
		return err
	}
	if sum := fmt.Sprintf("%08x", crc.Sum32()); sum != entry.CRC32C {
		return fmt.Errorf("%s has checksum %s and should have %s; upload the prepared directory again", name, sum, entry.CRC32C)
	}
	return f.Sync()
}
