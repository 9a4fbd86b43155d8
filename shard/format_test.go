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
	golden, err := filepath.Abs("testdata/v2")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	writeFile(t, "text.txt", goldenText)
	report := prepare(t, lineConfig("cache", "text.txt"))
	cfg := SampleConfig{Unit: Window, MaxTokens: 8}
	samples := filepath.Base(samplesOf(t, open(t, report.Dir), cfg).path)
	for _, name := range []string{indexName, shardName(0, 0), samples} {
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

// TestEarlierVersion opens what version 1 has written: it is refused by name, the index and each file by itself.
func TestEarlierVersion(t *testing.T) {
	_, err := Open("testdata/v1", OpenConfig{})
	wantError(t, err, "testdata/v1", "version 1", "version 2", "prepare the corpus again")
	data, err := os.ReadFile("testdata/v1/shard-00000.bin")
	if err != nil {
		t.Fatal(err)
	}
	_, err = decodeHeader(data)
	wantError(t, err, "version 1", "version 2")
	_, c := corpusOf(t, someText(2), nil)
	data, err = os.ReadFile("testdata/v1/samples-2f4ec8397b8963037e44b48fb5eef152.idx")
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, (&Samples{corpus: c, data: data}).parse([32]byte{}), "version 1", "version 2")
}

func TestLayout(t *testing.T) {
	h := header{tokenBytes: 2, tokens: 9, sentences: 3, documents: 2}
	want := layout{tokens: 72, words: 96, sentences: 104, documents: 120, sources: 136, lengths: 144, offsets: 152, lines: 168, hashes: 184, end: 216}
	if got := h.layout(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if tokenBytesFor(1<<16) != 2 || tokenBytesFor(1<<16+1) != 4 {
		t.Error("65,536 tokens fit into 2 bytes, and no more")
	}
}
