package shard

import (
	"context"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testEncoder splits at white space and cuts words into pieces of three bytes, each
// hashed into the vocabulary.
type testEncoder struct {
	vocab int
	name  string
	delay time.Duration // a call
}

func (e testEncoder) VocabSize() int { return e.vocab }
func (e testEncoder) Digest() string { return "test" + e.name }

func (e testEncoder) Encode(texts []string) ([]Encoding, error) {
	time.Sleep(e.delay)
	encodings := make([]Encoding, len(texts))
	for i, text := range texts {
		for _, word := range strings.Fields(text) {
			for at := 0; at < len(word); at += 3 {
				h := fnv.New32a()
				h.Write([]byte(word[at:min(at+3, len(word))]))
				encodings[i].IDs = append(encodings[i].IDs, h.Sum32()%uint32(e.vocab))
				encodings[i].WordStart = append(encodings[i].WordStart, at == 0)
			}
		}
	}
	return encodings, nil
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// lineConfig prepares paths by paragraphs and lines into dir.
func lineConfig(dir string, paths ...string) PrepareConfig {
	return PrepareConfig{Dir: dir, Paths: paths, TextUnit: TextParagraph, SentenceUnit: SentenceLine,
		Encoder: testEncoder{vocab: 30000}}
}

func prepare(t testing.TB, cfg PrepareConfig) Report {
	t.Helper()
	report, err := Prepare(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func open(t testing.TB, dir string) *Corpus {
	t.Helper()
	c, err := Open(dir, OpenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func samplesOf(t testing.TB, c *Corpus, cfg SampleConfig) *Samples {
	t.Helper()
	s, err := c.Samples(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// oneStream is the samples alone.
func oneStream(t testing.TB, s *Samples) *Dataset { return datasetOf(t, 1, Stream{Samples: s}) }

func datasetOf(t testing.TB, seed uint64, streams ...Stream) *Dataset {
	t.Helper()
	d, err := NewDataset(seed, streams...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// wantError fails unless err says every one of words.
func wantError(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; it should say %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error %q does not say %q", err, word)
		}
	}
}

// readSource hands the documents of one source to yield.
func readSource(s documentStream, yield func(document) error) error {
	for {
		doc, err := s.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := yield(doc); err != nil {
			return err
		}
	}
}
