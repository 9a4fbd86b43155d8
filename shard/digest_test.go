package shard

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDigestsAndPlaces(t *testing.T) {
	text := someText(9)
	_, a := corpusOf(t, text, nil)
	_, b := corpusOf(t, text, func(cfg *PrepareConfig) { cfg.ShardBytes = 100 })
	if a.Digest() == b.Digest() || a.ContentDigest() != b.ContentDigest() {
		t.Error("a corpus elsewhere should have another digest and the same content digest")
	}
	cfg := SampleConfig{Unit: Window, MaxTokens: 4}
	if samplesOf(t, a, cfg).Digest() != samplesOf(t, b, cfg).Digest() {
		t.Error("the same samples have two digests")
	}
	if samplesOf(t, a, cfg).Digest() == samplesOf(t, a, SampleConfig{Unit: Window, MaxTokens: 5}).Digest() {
		t.Error("other samples have the same digest")
	}
}

func TestPrepareNoticesWhatChanged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.txt")
	writeFile(t, path, someText(5))
	base := lineConfig(filepath.Join(dir, "cache"), path)
	first := prepare(t, base)
	if first.Reused {
		t.Fatal("the first Prepare says that it reused shards")
	}
	again := prepare(t, base)
	if !again.Reused || again.Dir != first.Dir || again.Counts != first.Counts {
		t.Errorf("the second Prepare: %+v, the first: %+v", again, first)
	}
	changes := map[string]func(*PrepareConfig){
		"tokenizer":     func(c *PrepareConfig) { c.Encoder = testEncoder{vocab: 30000, name: "other"} },
		"vocabulary":    func(c *PrepareConfig) { c.Encoder = testEncoder{vocab: 30001} },
		"text unit":     func(c *PrepareConfig) { c.TextUnit = TextLine },
		"sentence unit": func(c *PrepareConfig) { c.SentenceUnit = SentenceNone },
		"segmenter": func(c *PrepareConfig) {
			c.SentenceUnit, c.Segment, c.SegmentDigest = SentenceAuto, strings.Fields, "fields"
		},
		"encoding": func(c *PrepareConfig) { c.EncodingErrors = EncodingReplace },
		"keep":     func(c *PrepareConfig) { c.Keep, c.KeepDigest = func([]uint32) bool { return true }, "all" },
		"shards":   func(c *PrepareConfig) { c.ShardBytes = 77 },
	}
	for name, change := range changes {
		cfg := base
		change(&cfg)
		if report := prepare(t, cfg); report.Reused || report.Dir == first.Dir {
			t.Errorf("another %s was not noticed: %+v", name, report)
		}
	}
	// The same size and a restored time: files as young as this are read again.
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, strings.Replace(someText(5), "words", "WORDS", 1))
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if report := prepare(t, base); report.Reused {
		t.Error("another text of the same size and time was not noticed")
	}
	writeFile(t, path, someText(5))
	if report := prepare(t, base); !report.Reused {
		t.Error("the old text's shards were not found again")
	}
}

func TestPrepareReadsNothingTwice(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.txt")
	writeFile(t, path, someText(5))
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	cfg := lineConfig(filepath.Join(dir, "cache"), path)
	prepare(t, cfg)
	// With the hash remembered, a second run needs neither the text (which is another
	// one here, with the size and time of the first) nor the lock.
	writeFile(t, path, strings.ToUpper(someText(5)))
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	unlock, err := lockDir(context.Background(), cfg.Dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if report, err := Prepare(ctx, cfg); err != nil || !report.Reused {
		t.Errorf("%+v, %v", report, err)
	}
}
