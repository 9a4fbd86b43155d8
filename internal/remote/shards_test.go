package remote

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ddprun/ddprun/shard"
)

// prepareSmall makes shards of 5 kB, and returns their directory and the files in it.
func prepareSmall(t *testing.T) (dir string, files map[string][]byte) {
	t.Helper()
	source := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(source, corpus(t)["c/a.txt"], 0o644); err != nil {
		t.Fatal(err)
	}
	cfg := shardsConfig(t, nil, source)
	cfg.ShardBytes = 5_000
	report, err := shard.Prepare(context.Background(), cfg)
	if err != nil || report.Shards < 3 {
		t.Fatalf("%d shards, %v", report.Shards, err)
	}
	files = map[string][]byte{}
	entries, err := os.ReadDir(report.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if files[entry.Name()], err = os.ReadFile(filepath.Join(report.Dir, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return report.Dir, files
}

func shardsConfig(t *testing.T, store shard.Remote, paths ...string) shard.PrepareConfig {
	return shard.PrepareConfig{Dir: t.TempDir(), Paths: paths, TextUnit: shard.TextParagraph, SentenceUnit: shard.SentenceLine, Encoder: letters{}, Remote: store}
}

// read returns the corpus's digest and its samples.
func read(cfg shard.PrepareConfig) (digest string, samples [][]uint32, err error) {
	report, err := shard.Prepare(context.Background(), cfg)
	if err != nil {
		return "", nil, err
	}
	c, err := shard.Open(report.Dir, shard.OpenConfig{Remote: cfg.Remote, From: report.From})
	if err != nil {
		return "", nil, err
	}
	defer c.Close()
	s, err := c.Samples(context.Background(), shard.SampleConfig{Unit: shard.Document, MaxTokens: 8})
	if err != nil {
		return "", nil, err
	}
	defer s.Close()
	for i := range s.Len() {
		var sample shard.Sample
		if err := s.At(i, &sample); err != nil {
			return "", nil, err
		}
		samples = append(samples, append([]uint32(nil), sample.Tokens...))
	}
	return c.Digest(), samples, nil
}

// shardServer serves files below /d, and counts complete requests for shards.
func shardServer(t *testing.T, files map[string][]byte, fault func(n int, w http.ResponseWriter, r *http.Request, data []byte)) (address string, asked map[string]int) {
	var mu sync.Mutex
	asked = map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, found := files[path.Base(r.URL.Path)]
		if !found {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", `"one"`)
		if name := path.Base(r.URL.Path); strings.HasSuffix(name, ".bin") && r.Header.Get("Range") != "bytes=0-0" {
			mu.Lock()
			asked[name]++
			n := asked[name]
			mu.Unlock()
			if fault != nil {
				fault(n, w, r, data)
			}
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	t.Cleanup(server.Close)
	return server.URL + "/d", asked
}

// A copy of prepared shards behind a URL gives the samples of the directory, from a bucket and from a server that cuts each download.
func TestPreparedShardsFromAnywhere(t *testing.T) {
	dir, files := prepareSmall(t)
	digest, want, err := read(shardsConfig(t, nil, dir))
	if err != nil || len(want) < 1000 {
		t.Fatalf("%d samples, %v", len(want), err)
	}
	objects := map[string][]byte{}
	for name, data := range files {
		objects["shards/d/"+name] = data
	}
	query, _ := s3Server(t, objects)
	cut, _ := shardServer(t, files, func(n int, w http.ResponseWriter, r *http.Request, data []byte) {
		if n == 1 {
			part(w, r, data, len(data)/2, false)
		}
	})
	for _, url := range []string{"s3://texts/shards/d" + query, "s3://texts/shards/d/" + query, cut} {
		got, samples, err := read(shardsConfig(t, quick(t), url))
		if err != nil || got != digest || !reflect.DeepEqual(samples, want) {
			t.Errorf("%s: digest %s, want %s; %d samples, want %d; %v", url, got, digest, len(samples), len(want), err)
		}
	}
	cfg := shardsConfig(t, quick(t), cut)
	cfg.TextUnit = shard.TextLine
	if _, _, err := read(cfg); err == nil || !strings.Contains(err.Error(), cut) {
		t.Errorf("shards made otherwise: %v", err)
	}
}

// Several readers of one directory fetch each shard once; what a killed one left half-written is not taken.
func TestShardIsFetchedOnce(t *testing.T) {
	_, files := prepareSmall(t)
	address, asked := shardServer(t, files, nil)
	cfg := shardsConfig(t, quick(t), address)
	report, err := shard.Prepare(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(report.Dir, "*.bin")); len(left) != 0 {
		t.Fatalf("%q were fetched before they were read", left)
	}
	name := ""
	for file := range files {
		if strings.HasSuffix(file, ".bin") {
			name = file
		}
	}
	if err := os.WriteFile(filepath.Join(report.Dir, name), files[name][:100], 0o644); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 3 {
		store := quick(t)
		all.Go(func() {
			mine := cfg
			mine.Remote = store
			if _, _, err := read(mine); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(asked) != report.Shards {
		t.Errorf("%d shards of %d were fetched", len(asked), report.Shards)
	}
	for name, n := range asked {
		if n != 1 {
			t.Errorf("%s was fetched %d times", name, n)
		}
	}
}

func TestBadRemoteShardIsRefused(t *testing.T) {
	for what, damage := range map[string]func([]byte) []byte{
		"checksum": func(b []byte) []byte { b = bytes.Clone(b); b[len(b)/2] ^= 1; return b },
		"bytes":    func(b []byte) []byte { return b[:len(b)-1] },
		"no such":  func([]byte) []byte { return nil },
	} {
		_, files := prepareSmall(t)
		name := ""
		for file := range files {
			if strings.HasSuffix(file, ".bin") {
				name = file
			}
		}
		if files[name] = damage(files[name]); files[name] == nil {
			delete(files, name)
		}
		address, _ := shardServer(t, files, nil)
		cfg := shardsConfig(t, quick(t), address)
		if _, _, err := read(cfg); err == nil || !strings.Contains(err.Error(), address+"/"+name) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
		if left, _ := filepath.Glob(filepath.Join(cfg.Dir, "remote", "*", "*"+name)); len(left) > 1 { // its lock
			t.Errorf("%s: %q stay", what, left)
		}
	}
}

// Two corpora of one directory, as two processes have, read at random through a cache that holds a part of the shards: what is read is right, and the limit is held.
func TestCacheLimit(t *testing.T) {
	dir, files := prepareSmall(t)
	var cache atomic.Pointer[string]
	var most atomic.Int64
	// While a shard is fetched, nothing else changes in the cache: what lies there, and the shard, is the most.
	address, asked := shardServer(t, files, func(_ int, _ http.ResponseWriter, _ *http.Request, data []byte) {
		now := int64(len(data))
		found, _ := filepath.Glob(filepath.Join(*cache.Load(), "*.bin"))
		for _, name := range found {
			if info, err := os.Stat(name); err == nil {
				now += info.Size()
			}
		}
		most.Store(max(most.Load(), now))
	})
	_, want, err := read(shardsConfig(t, nil, dir))
	if err != nil {
		t.Fatal(err)
	}
	var total, largest, shards int64
	for name, content := range files {
		if strings.HasSuffix(name, ".bin") {
			total, largest, shards = total+int64(len(content)), max(largest, int64(len(content))), shards+1
		}
	}
	cfg := shardsConfig(t, quick(t), address)
	report, err := shard.Prepare(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	open := shard.OpenConfig{Remote: cfg.Remote, From: report.From, CacheBytes: largest - 1}
	if _, err := shard.Open(report.Dir, open); err == nil || !strings.Contains(err.Error(), fmt.Sprint(largest)) {
		t.Errorf("a limit below a shard: %v", err)
	}
	open.CacheBytes = max(largest, total/2)
	cache.Store(&report.Dir)
	var readers sync.WaitGroup
	for range 2 {
		c, err := shard.Open(report.Dir, open)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.Samples(context.Background(), shard.SampleConfig{Unit: shard.Document, MaxTokens: 8})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close(); c.Close() })
		for seed := range uint64(3) {
			readers.Go(func() {
				r := rand.New(rand.NewPCG(seed, 7))
				var sample shard.Sample
				for range 300 {
					i := r.Int64N(s.Len())
					if err := s.At(i, &sample); err != nil || !slices.Equal(sample.Tokens, want[i]) {
						t.Errorf("sample %d is %d (%v), want %d", i, sample.Tokens, err, want[i])
						return
					}
				}
			})
		}
	}
	readers.Wait()
	fetched := 0
	for _, n := range asked {
		fetched += n
	}
	t.Logf("%d shards of %d bytes were fetched %d times; at most %d bytes lay there, of %d", shards, total, fetched, most.Load(), open.CacheBytes)
	if most.Load() > open.CacheBytes {
		t.Errorf("%d bytes lay in the cache, the limit is %d", most.Load(), open.CacheBytes)
	}
	if fetched <= int(shards) {
		t.Errorf("%d shards were fetched %d times: none was removed", shards, fetched)
	}
}
