package shard

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSamplesDigest(t *testing.T) {
	dir := t.TempDir()
	text, cache := filepath.Join(dir, "a.txt"), filepath.Join(dir, "cache")
	writeFile(t, text, someText(5))
	cfg := lineConfig(cache, text)
	cut := SampleConfig{Unit: Window, MaxTokens: 20}
	digest := func() string {
		t.Helper()
		d, err := SamplesDigest(cfg, cut)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	early := digest()
	if _, err := os.Stat(cache); err == nil {
		t.Error("SamplesDigest has written something")
	}
	if real := samplesOf(t, open(t, prepare(t, cfg).Dir), cut).Digest(); early != real || digest() != real {
		t.Errorf("%s before preparing, %s after, and the samples have %s", early, digest(), real)
	}
	cut.MaxTokens++
	if digest() == early {
		t.Error("another cut has the same digest")
	}
	cut.MaxTokens--
	writeFile(t, text, someText(6))
	if digest() == early {
		t.Error("another text has the same digest")
	}
	cfg.Paths = []string{filepath.Join(dir, "b.txt")}
	_, err := SamplesDigest(cfg, cut)
	wantError(t, err, "b.txt")
	cut.MaxTokens = 0
	_, err = SamplesDigest(cfg, cut)
	wantError(t, err, "at most 0 tokens")
}
