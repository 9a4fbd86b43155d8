package shard

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

// syntheticCorpus writes shards of so many documents of so many random tokens, a tenth of which come again; nothing is tokenized.
func syntheticCorpus(t testing.TB, documents, tokens int) *Corpus {
	t.Helper()
	dir := t.TempDir()
	x := &index{Format: indexFormat, Version: Version, TokenizerDigest: "test", VocabSize: 30000, TokenBytes: 2,
		Sources: []Source{{Path: "synthetic", Bytes: 1}}}
	digest := corpusDigest(x.TokenizerDigest, x.VocabSize, x.Options, x.Sources)
	x.Digest = fmt.Sprintf("%x", digest[:])
	w := &writer{dir: dir, corpus: [16]byte(digest[:16]), vocabSize: uint32(x.VocabSize), limit: 64 << 20}
	w.begin(0, 64<<20)
	words := make([]bool, tokens)
	at := func(i int) (document, []Encoding) {
		r := rand.New(rand.NewPCG(uint64(i), 1))
		doc := document{line: int64(i + 1), bytes: 1}
		for j := range doc.hash {
			doc.hash[j] = byte(r.Uint32())
		}
		return doc, []Encoding{{IDs: randomTokens(r, tokens), WordStart: words}}
	}
	for i := range documents {
		of := i
		if i%10 == 9 {
			of = i / 10
		}
		doc, encodings := at(of)
		if err := w.add(doc, encodings); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	x.Shards = w.shards
	x.Counts = Counts{Documents: int64(documents), Sentences: int64(documents), Tokens: int64(documents * tokens)}
	if err := x.write("", dir); err != nil {
		t.Fatal(err)
	}
	return open(t, dir)
}

// anonymousBytes is how much memory the process has now beside mapped files; a table that a stage has used is not given back before the next one begins.
func anonymousBytes(t testing.TB) int64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	_, rest, _ := strings.Cut(string(data), "RssAnon:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// BenchmarkClean goes through DDPRUN_BENCH_DOCUMENTS documents (default 100,000) of 64 tokens, and says how fast, and how much memory beside mapped files
// it takes.
func BenchmarkClean(b *testing.B) {
	n := 100_000
	if s := os.Getenv("DDPRUN_BENCH_DOCUMENTS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	c := syntheticCorpus(b, n, 64)
	debug.FreeOSMemory() // what writing took
	before := anonymousBytes(b)
	for _, kind := range []Deduplicate{DeduplicateExact, DeduplicateNear} {
		b.Run(string(kind), func(b *testing.B) {
			most := before
			stage := func(string) { most = max(most, anonymousBytes(b)) }
			for i := 0; b.Loop(); i++ {
				dir := filepath.Join(b.TempDir(), strconv.Itoa(i))
				cleaned, err := Clean(context.Background(), []*Corpus{c}, nil, CleanConfig{Dir: dir, Deduplicate: kind, HeldOutPercent: 1, stage: stage})
				if err != nil {
					b.Fatal(err)
				}
				if got := cleaned.Report.Count("exact_duplicate"); got < int64(n/20) {
					b.Fatalf("%d duplicates", got)
				}
				cleaned.Close()
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "documents/s")
			b.ReportMetric(float64(most-before)/(1<<20), "MiB")
		})
	}
}
