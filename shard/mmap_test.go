package shard

import (
	"os"
	"path/filepath"
	"testing"
)

// TestCutShortWhileInUse truncates files under their mappings, where plain reading
// would end the process with a bus error.
func TestCutShortWhileInUse(t *testing.T) {
	report, c := corpusOf(t, someText(3000), nil)
	s := samplesOf(t, c, SampleConfig{Unit: Window, MaxTokens: 4})
	if err := s.At(s.Len()-1, new(Sample)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(report.Dir, shardName(0, 0)), 0); err != nil {
		t.Fatal(err)
	}
	wantError(t, s.At(s.Len()-1, new(Sample)), shardName(0, 0), "cut short")
	_, err := s.Origin(0)
	wantError(t, err, shardName(0, 0), "cut short")
	if err := os.Truncate(s.path, 0); err != nil {
		t.Fatal(err)
	}
	wantError(t, s.At(s.Len()-1, new(Sample)), "samples-", "cut short")
}
