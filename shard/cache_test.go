package shard

import (
	"os"
	"path/filepath"
	"testing"
)

// A shard that nothing can fetch again is missed at once, also where a limit for those that can be is set.
func TestLimitOfWhatCannotBeFetched(t *testing.T) {
	report, first := corpusOf(t, someText(3000), nil)
	samplesOf(t, first, SampleConfig{Unit: Window, MaxTokens: 4})
	c, err := Open(report.Dir, OpenConfig{CacheBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := samplesOf(t, c, SampleConfig{Unit: Window, MaxTokens: 4})
	if err := os.Remove(filepath.Join(report.Dir, shardName(0, 0))); err != nil {
		t.Fatal(err)
	}
	wantError(t, s.At(0, new(Sample)), shardName(0, 0), "no such file")
}
