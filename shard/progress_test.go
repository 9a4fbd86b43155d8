package shard

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	dir := t.TempDir()
	cfg := partedConfig(t, dir, 5, "")
	var total int64
	for _, path := range filesBelow(t, filepath.Join(dir, "texts")) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	var seen []Progress
	cfg.Progress = func(p Progress) { seen = append(seen, p) }
	cfg.Encoder = testEncoder{vocab: 30000, delay: 100 * time.Millisecond}
	report := prepare(t, cfg)
	last := seen[len(seen)-1]
	if want := (Progress{Bytes: total, TotalBytes: total, Documents: report.Documents, Tokens: report.Tokens, Parts: 5, TotalParts: 5}); last != want {
		t.Errorf("at the end %+v, want %+v", last, want)
	}
	for i, p := range seen {
		if p.Bytes > p.TotalBytes || i > 0 && !p.Hashing && !seen[i-1].Hashing && (p.Bytes < seen[i-1].Bytes || p.Tokens < seen[i-1].Tokens) {
			t.Errorf("%+v, then %+v", seen[max(0, i-1)], p)
		}
	}
	if len(seen) < 3 {
		t.Errorf("told %d times in half a second", len(seen))
	}
}
