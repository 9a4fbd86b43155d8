package shard

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const goldenText = "One line.\nAnother, longerthanthat.\n\nA second document\n"

// TestFormatStays compares what is written with files that lie under testdata: a
// difference needs another Version, and a reader must open what was written before.
func TestFormatStays(t *testing.T) {
	golden, err := filepath.Abs("testdata/v1")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	writeFile(t, "text.txt", goldenText)
	report := prepare(t, lineConfig("cache", "text.txt"))
	cfg := SampleConfig{Unit: Window, MaxTokens: 8}
	samples := filepath.Base(samplesOf(t, open(t, report.Dir), cfg).path)
	for _, name := range []string{indexName, shardName(0), samples} {
		got, err := os.ReadFile(filepath.Join(report.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(golden, name)
		if *update {
			writeFile(t, path, string(got))
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is not what it was", name)
		}
	}
	s := samplesOf(t, open(t, golden), cfg)
	if !s.Report().Reused || s.Len() != 3 {
		t.Errorf("the golden corpus's samples: %+v", s.Report())
	}
}

func TestLayout(t *testing.T) {
	h := header{tokenBytes: 2, tokens: 9, sentences: 3, documents: 2}
	want := layout{tokens: 64, words: 88, sentences: 96, documents: 112, sources: 128, lengths: 136, offsets: 144, end: 160}
	if got := h.layout(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if tokenBytesFor(1<<16) != 2 || tokenBytesFor(1<<16+1) != 4 {
		t.Error("65,536 tokens fit into 2 bytes, and no more")
	}
}
