package shard

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// someText is n paragraphs of a few lines each.
func someText(n int) string {
	var b strings.Builder
	for i := range n {
		for j := range i%4 + 1 {
			fmt.Fprintf(&b, "paragraph %d line number%d has some words and incomprehensibilities\n", i, j)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// everything reads a corpus back as text: documents, sentences, tokens and words.
func everything(t testing.TB, dir string) []string {
	t.Helper()
	c := open(t, dir)
	var all []string
	for i := range c.shards {
		s, err := c.shard(i)
		if err != nil {
			t.Fatal(err)
		}
		for d := range int64(s.h.documents) {
			first, end := s.document(d)
			tokens, err := s.appendTokens(nil, first, end)
			if err != nil {
				t.Fatal(err)
			}
			line := fmt.Sprint(c.Sources()[s.docSource(d)].Path, " ", s.docOffset(d), ":", s.docLine(d), " ",
				s.docBytes(d), fmt.Sprintf(" %x", s.docHash(d)), tokens, s.appendWords(nil, first, end))
			for i := s.u32(s.l.documents, d); i < s.u32(s.l.documents, d+1); i++ {
				a, b := s.sentence(int64(i))
				line += fmt.Sprint(" ", a-first, "-", b-first)
			}
			all = append(all, line)
		}
	}
	return all
}

// expected is what everything should return, computed without shards.
func expected(t testing.TB, cfg PrepareConfig, path, text string) []string {
	t.Helper()
	var all []string
	offset := 0
	for _, paragraph := range strings.SplitAfter(text, "\n\n") {
		doc := strings.TrimRight(paragraph, "\n")
		if doc != "" {
			lines := strings.Split(doc, "\n")
			encodings, _ := cfg.Encoder.Encode(lines)
			var tokens []uint32
			var words []bool
			bounds := ""
			for _, e := range encodings {
				bounds += fmt.Sprint(" ", len(tokens), "-", len(tokens)+len(e.IDs))
				tokens = append(tokens, e.IDs...)
				words = append(words, e.WordStart...)
			}
			all = append(all, fmt.Sprint(path, " ", offset, ":", strings.Count(text[:offset], "\n")+1, " ", len(doc),
				fmt.Sprintf(" %x", sha256.Sum256([]byte(doc)))[:33], tokens, words)+bounds)
		}
		offset += len(paragraph)
	}
	return all
}

func TestPrepareRoundTrip(t *testing.T) {
	for _, vocab := range []int{30000, 1 << 16, 1<<16 + 1, 1 << 30} {
		for _, shardBytes := range []int64{0, 1, 1000} {
			if shardBytes == 1 && vocab != 30000 {
				continue // a shard a document costs a sync each
			}
			dir := t.TempDir()
			path := filepath.Join(dir, "a.txt")
			text := someText(57)
			writeFile(t, path, text)
			cfg := lineConfig(filepath.Join(dir, "cache"), path)
			cfg.Encoder, cfg.ShardBytes = testEncoder{vocab: vocab}, shardBytes
			report := prepare(t, cfg)
			if got, want := everything(t, report.Dir), expected(t, cfg, path, text); !reflect.DeepEqual(got, want) {
				t.Fatalf("vocabulary %d, shards of %d: got\n%s\nwant\n%s", vocab, shardBytes, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if report.Documents != 57 || shardBytes == 1 && report.Shards != 57 {
				t.Errorf("report %+v", report)
			}
		}
	}
}

func TestPrepareDrops(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.txt")
	writeFile(t, path, "keep this\n\ndrop\n\n\u00a0\n\nand keep this\n")
	cfg := lineConfig(filepath.Join(dir, "cache"), path)
	cfg.Keep, cfg.KeepDigest = func(tokens []uint32) bool { return len(tokens) > 2 }, "longer than 2"
	if report := prepare(t, cfg); report.Documents != 2 || report.DroppedDocuments != 1 || report.Sources[0].Documents != 2 {
		t.Errorf("%+v", report)
	}
}

func TestPrepareRefuses(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.txt")
	writeFile(t, good, someText(3))
	write := func(name, text string) string {
		writeFile(t, filepath.Join(dir, name), text)
		return filepath.Join(dir, name)
	}
	tests := map[string]struct {
		change func(*PrepareConfig)
		want   []string
	}{
		"no file":    {func(c *PrepareConfig) { c.Paths = nil }, []string{"no files"}},
		"no match":   {func(c *PrepareConfig) { c.Paths = []string{dir + "/no*.txt"} }, []string{"no*.txt", "matches no file"}},
		"one of two": {func(c *PrepareConfig) { c.Paths = append(c.Paths, dir+"/absent.txt") }, []string{"absent.txt"}},
		"blank":      {func(c *PrepareConfig) { c.Paths = []string{write("blank.txt", " \n\n")} }, []string{"empty", "blank.txt"}},
		"latin1": {func(c *PrepareConfig) { c.Paths = []string{write("latin1.txt", "one\ntwo caf\xe9\n")} },
			[]string{"latin1.txt", "byte 11", "line 2", "encoding_errors: replace"}},
		"utf16":         {func(c *PrepareConfig) { c.Paths = []string{write("utf16.txt", "\xff\xfea\x00")} }, []string{"utf16.txt", "UTF-16"}},
		"text unit":     {func(c *PrepareConfig) { c.TextUnit = "page" }, []string{"text_unit", "page", "paragraph"}},
		"sentence unit": {func(c *PrepareConfig) { c.SentenceUnit = "" }, []string{"sentence_unit"}},
		"no segmenter":  {func(c *PrepareConfig) { c.SentenceUnit = SentenceAuto }, []string{"segmenter"}},
		"all dropped": {func(c *PrepareConfig) { c.Keep, c.KeepDigest = func([]uint32) bool { return false }, "none" },
			[]string{"empty", "3 nothing to train on"}},
		"bad encoder":  {func(c *PrepareConfig) { c.Encoder = wrongEncoder{} }, []string{"good.txt", "beyond its vocabulary"}},
		"no directory": {func(c *PrepareConfig) { c.Dir = filepath.Join(good, "below") }, []string{"good.txt"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := lineConfig(filepath.Join(t.TempDir(), "cache"), good)
			test.change(&cfg)
			_, err := Prepare(context.Background(), cfg)
			wantError(t, err, test.want...)
			if left, _ := filepath.Glob(filepath.Join(cfg.Dir, tmpPrefix+"*")); len(left) != 0 {
				t.Errorf("left %v", left)
			}
			if left, _ := filepath.Glob(filepath.Join(cfg.Dir, "*", indexName)); len(left) != 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

// wrongEncoder returns a token that its vocabulary does not have.
type wrongEncoder struct{ testEncoder }

func (wrongEncoder) VocabSize() int { return 10 }
func (wrongEncoder) Encode(texts []string) ([]Encoding, error) {
	encodings := make([]Encoding, len(texts))
	for i := range encodings {
		encodings[i] = Encoding{IDs: []uint32{10}, WordStart: []bool{true}}
	}
	return encodings, nil
}

func TestPrepareCancelled(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.txt")
	writeFile(t, path, someText(5000))
	cfg := lineConfig(filepath.Join(dir, "cache"), path)
	cfg.Encoder = testEncoder{vocab: 30000, delay: 30 * time.Millisecond}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := Prepare(ctx, cfg)
	wantError(t, err, "deadline")
	if report := prepare(t, cfg); report.Documents != 5000 {
		t.Errorf("%+v", report)
	}
}

func TestPrepareNoticesAChangeWhileReading(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.txt")
	writeFile(t, path, someText(5))
	cfg := lineConfig(dir, path)
	opts, err := cfg.check()
	if err != nil {
		t.Fatal(err)
	}
	sources, err := openHashCache(&cfg).hash(t.Context(), []string{path}, new(meter))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, someText(6))
	_, err = build(t.Context(), &cfg, cfg.newIndex(opts, sources), new(meter))
	wantError(t, err, "a.txt", "changed while it was being read")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, err = build(t.Context(), &cfg, cfg.newIndex(opts, sources), new(meter))
	wantError(t, err, "a.txt", "no such file")
}
