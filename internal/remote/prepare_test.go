package remote

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ddprun/ddprun/shard"
)

// letters is an Encoder: a word is a token, its length.
type letters struct{}

func (letters) VocabSize() int { return 1000 }
func (letters) Digest() string { return "letters" }
func (letters) Encode(texts []string) ([]shard.Encoding, error) {
	out := make([]shard.Encoding, len(texts))
	for i, text := range texts {
		for _, word := range strings.Fields(text) {
			sum := uint32(0)
			for _, b := range []byte(word) {
				sum = (sum*31 + uint32(b)) % 1000
			}
			out[i].IDs, out[i].WordStart = append(out[i].IDs, sum), append(out[i].WordStart, true)
		}
	}
	return out, nil
}

func prepare(t *testing.T, store *Store, paths ...string) (shard.Report, error) {
	return shard.Prepare(context.Background(), shard.PrepareConfig{Dir: t.TempDir(), Paths: paths, TextUnit: shard.TextParagraph,
		SentenceUnit: shard.SentenceLine, Encoder: letters{}, Remote: store})
}

// shards are the bytes of a corpus's shards but for its digest, which depends on the paths.
func shards(t *testing.T, report shard.Report) []byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(report.Dir, "shard-*.bin"))
	if err != nil || len(files) != report.Shards {
		t.Fatalf("%d shards of %d, %v", len(files), report.Shards, err)
	}
	var all []byte
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		clear(data[56:72])
		all = append(all, data...)
	}
	return all
}

// corpus are sources of several formats.
func corpus(t *testing.T) map[string][]byte {
	var text, lines strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&text, "sentence %d of the text\nanother one %d\n\n", i, i*i)
		fmt.Fprintf(&lines, "{\"text\": \"record %d\"}\n", i)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write([]byte(lines.String()))
	w.Close()
	table, err := os.ReadFile("../../shard/testdata/readers/snappy.parquet")
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"c/a.txt": []byte(text.String()), "c/b.jsonl.gz": packed.Bytes(), "c/d.parquet": table}
}

// The same shards come from files, from a bucket, and from a web server whose connections break.
func TestSameShardsFromAnywhere(t *testing.T) {
	sources := corpus(t)
	dir := t.TempDir()
	for name, data := range sources {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	report, err := prepare(t, nil, filepath.Join(dir, "c"))
	if err != nil {
		t.Fatal(err)
	}
	want := shards(t, report)

	query, _ := s3Server(t, sources)
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data := sources[strings.TrimPrefix(r.URL.Path, "/")]
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, len(data)))
		if n.Add(1)%3 == 0 && r.Header.Get("Range") == "" {
			part(w, r, data, len(data)/3, false)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	defer server.Close()
	var files []string
	for name := range sources {
		files = append(files, server.URL+"/"+name)
	}
	for name, paths := range map[string][]string{"directory": {"s3://texts/c" + query}, "pattern": {"s3://texts/c/*" + query}, "web": files} {
		report, err := prepare(t, quick(t), paths...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := shards(t, report); !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes of shards differ from the %d of files", name, len(got), len(want))
		}
		index, err := os.ReadFile(filepath.Join(report.Dir, "index.json"))
		if err != nil || strings.Contains(string(index), "endpoint") {
			t.Errorf("%s: index.json holds the query, or %v", name, err)
		}
	}
}

func TestChangedSourceEndsPreparing(t *testing.T) {
	data := []byte(strings.Repeat("word\n\n", 1000))
	address, _ := serve(t, data, func(n int64, w http.ResponseWriter, _ *http.Request) bool {
		if n > 3 {
			w.Header().Set("ETag", `"two"`)
		}
		return false
	})
	_, err := prepare(t, quick(t), address)
	if err == nil || !strings.Contains(err.Error(), "changed") || !strings.Contains(err.Error(), address) {
		t.Errorf("error %v", err)
	}
}

// With on_error: skip a source that changes is read again, in its new version.
func TestChangedSourceIsReadAgain(t *testing.T) {
	data := []byte(strings.Repeat("word\n\n", 100_000))
	var changed atomic.Bool
	address, _ := serve(t, data, func(_ int64, w http.ResponseWriter, r *http.Request) bool {
		if changed.Load() {
			w.Header().Set("ETag", `"two"`)
		} else if r.Header.Get("Range") != "bytes=0-0" {
			changed.Store(true)
			part(w, r, data, 100_000, false) // the rest is asked for again, and is another version
		}
		return false
	})
	report, err := shard.Prepare(context.Background(), shard.PrepareConfig{Dir: t.TempDir(), Paths: []string{address}, TextUnit: shard.TextParagraph,
		SentenceUnit: shard.SentenceLine, Encoder: letters{}, Remote: quick(t), OnError: shard.OnErrorSkip})
	if err != nil || report.Documents != 100_000 || report.Sources[0].SHA256 != `tag:"two"` || report.Skipped.Total() != 1 {
		t.Errorf("%d documents of %v, %d skipped, %v", report.Documents, report.Sources, report.Skipped.Total(), err)
	}
}
