package shard

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
)

// corpusOf prepares a text by paragraphs and lines.
func corpusOf(t testing.TB, text string, change func(*PrepareConfig)) (Report, *Corpus) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "a.txt")
	writeFile(t, path, text)
	cfg := lineConfig(filepath.Join(dir, "cache"), path)
	if change != nil {
		change(&cfg)
	}
	report := prepare(t, cfg)
	return report, open(t, report.Dir)
}

// pieces is what samples of the text should be, computed without shards.
func pieces(text string, unit SampleUnit, max int, long Long) [][]uint32 {
	var units []string
	for _, paragraph := range strings.Split(text, "\n\n") {
		if paragraph = strings.Trim(paragraph, "\n"); paragraph == "" {
			continue
		}
		if unit == Sentence {
			units = append(units, strings.Split(paragraph, "\n")...)
		} else {
			units = append(units, paragraph)
		}
	}
	encodings, _ := testEncoder{vocab: 30000}.Encode(units)
	var all [][]uint32
	for _, e := range encodings {
		ids := e.IDs
		for len(ids) > max {
			all = append(all, ids[:max])
			if ids = ids[max:]; long == LongTruncate {
				ids = nil
			}
		}
		if len(ids) > 0 {
			all = append(all, ids)
		}
	}
	return all
}

func TestSamples(t *testing.T) {
	text := someText(40)
	r := rand.New(rand.NewPCG(1, 9))
	for _, shardBytes := range []int64{0, 200} {
		_, c := corpusOf(t, text, func(cfg *PrepareConfig) { cfg.ShardBytes = shardBytes })
		for _, cfg := range []SampleConfig{
			{Unit: Window, MaxTokens: 1}, {Unit: Window, MaxTokens: 7}, {Unit: Window, MaxTokens: 10000},
			{Unit: Sentence, MaxTokens: 5}, {Unit: Sentence, MaxTokens: 5, Long: LongTruncate},
			{Unit: Document, MaxTokens: 30}, {Unit: Document, MaxTokens: 30, Long: LongTruncate},
		} {
			s := samplesOf(t, c, cfg)
			want := pieces(text, cfg.Unit, cfg.MaxTokens, cfg.Long)
			if s.Len() != int64(len(want)) {
				t.Fatalf("%+v: %d samples, want %d", cfg, s.Len(), len(want))
			}
			var sample Sample
			for _, i := range r.Perm(len(want)) {
				if err := s.At(int64(i), &sample); err != nil {
					t.Fatal(err)
				}
				n, err := s.Tokens(int64(i))
				if sample.ID != uint64(i) || !reflect.DeepEqual(sample.Tokens, want[i]) || len(sample.WordStart) != len(want[i]) || n != len(want[i]) || err != nil {
					t.Fatalf("%+v: sample %d is %v, want %v (%d, %v)", cfg, i, sample, want[i], n, err)
				}
				if !sample.WordStart[0] {
					t.Fatalf("%+v: sample %d does not start with a word", cfg, i)
				}
			}
			checkSampleReport(t, c, cfg, s.Report())
		}
	}
}

func checkSampleReport(t *testing.T, c *Corpus, cfg SampleConfig, r SampleReport) {
	t.Helper()
	if r.Tokens+r.LeftOutTokens+r.CutTokens != c.Counts().Tokens {
		t.Errorf("%+v: %+v does not add up to %d tokens", cfg, r, c.Counts().Tokens)
	}
	if (r.CutTokens > 0) != (cfg.Long == LongTruncate) {
		t.Errorf("%+v: %d tokens cut off", cfg, r.CutTokens)
	}
}

func TestSamplesKeep(t *testing.T) {
	_, c := corpusOf(t, "one two three\n\nfour\n\nfive six seven eight\n", nil)
	cfg := SampleConfig{Unit: Window, MaxTokens: 3, Keep: func(tokens []uint32) bool { return len(tokens) == 3 }, KeepDigest: "three"}
	s := samplesOf(t, c, cfg)
	// three: on,e? words longer than three bytes are cut: thr|ee, fou|r, fiv|e, sev|en, eig|ht
	want := 0
	leftOut := int64(0)
	for _, p := range pieces("one two three\n\nfour\n\nfive six seven eight", Window, 3, LongSplit) {
		if len(p) == 3 {
			want++
		} else {
			leftOut += int64(len(p))
		}
	}
	if r := s.Report(); r.Samples != int64(want) || r.LeftOutTokens != leftOut || r.LeftOut == 0 || r.Reused {
		t.Errorf("%+v, want %d samples and %d tokens left out", r, want, leftOut)
	}
	if r := samplesOf(t, c, cfg).Report(); !r.Reused || r.Samples != int64(want) {
		t.Errorf("the index was not found again: %+v", r)
	}
	cfg.Keep, cfg.KeepDigest = func([]uint32) bool { return false }, "none"
	_, err := c.Samples(context.Background(), cfg)
	wantError(t, err, "no sample is left")
	if left, _ := filepath.Glob(filepath.Join(c.dir, tmpPrefix+"*")); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestSamplesRefuses(t *testing.T) {
	_, c := corpusOf(t, someText(2), nil)
	for want, cfg := range map[string]SampleConfig{
		"window, sentence, document or pair": {Unit: "page", MaxTokens: 3},
		"at least 1":                         {Unit: Window},
		"cannot be truncated":                {Unit: Window, MaxTokens: 3, Long: LongTruncate},
		"split or truncate":                  {Unit: Sentence, MaxTokens: 3, Long: "fold"},
		"go together":                        {Unit: Window, MaxTokens: 3, KeepDigest: "x"},
	} {
		_, err := c.Samples(context.Background(), cfg)
		wantError(t, err, want)
	}
}

func TestSamplesAtTheSameTime(t *testing.T) {
	_, c := corpusOf(t, someText(200), func(cfg *PrepareConfig) { cfg.ShardBytes = 2000 })
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			s := samplesOf(t, c, SampleConfig{Unit: Window, MaxTokens: 8})
			var sample Sample
			for i := range s.Len() {
				if err := s.At(i, &sample); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func TestOrigin(t *testing.T) {
	text := "\n\none two\nthree\n\nfour five six\n"
	_, c := corpusOf(t, text, func(cfg *PrepareConfig) { cfg.ShardBytes = 1 })
	s := samplesOf(t, c, SampleConfig{Unit: Window, MaxTokens: 2})
	var got []string
	for i := range s.Len() {
		o, err := s.Origin(i)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s:%d %d %q %d", filepath.Base(o.Path), o.Line, o.Document, text[o.Offset:o.Offset+o.Bytes], o.Token))
	}
	want := []string{`a.txt:3 0 "one two\nthree" 0`, `a.txt:3 0 "one two\nthree" 2`, `a.txt:6 1 "four five six" 0`,
		`a.txt:6 1 "four five six" 2`, `a.txt:6 1 "four five six" 4`}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func BenchmarkAt(b *testing.B) {
	_, c := corpusOf(b, someText(100_000), nil)
	s := samplesOf(b, c, SampleConfig{Unit: Window, MaxTokens: 128})
	r := rand.New(rand.NewPCG(1, 2))
	var sample Sample
	tokens := 0
	for b.Loop() {
		if err := s.At(r.Int64N(s.Len()), &sample); err != nil {
			b.Fatal(err)
		}
		tokens += len(sample.Tokens)
	}
	b.ReportMetric(float64(tokens)/float64(b.N), "tokens/op")
}
