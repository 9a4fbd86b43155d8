package shard

import (
	"os"
	"path/filepath"
	"testing"
)

// TestWriterCuts looks at where shards end.
func TestWriterCuts(t *testing.T) {
	w := &writer{dir: t.TempDir(), vocabSize: 100, limit: 20}
	w.begin(3, 0)
	for _, tokens := range []int{4, 5, 1, 1, 30, 2, 10} { // 2 bytes each
		e := Encoding{IDs: make([]uint32, tokens), WordStart: make([]bool, tokens)}
		if err := w.add(document{}, []Encoding{e, {}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	if err := w.flush(); err != nil { // nothing is left
		t.Fatal(err)
	}
	want := []int64{10, 1, 30, 2, 10}
	if len(w.shards) != len(want) {
		t.Fatalf("%+v", w.shards)
	}
	for i, s := range w.shards {
		info, err := os.Stat(filepath.Join(w.dir, s.File))
		if err != nil {
			t.Fatal(err)
		}
		if s.Tokens != want[i] || info.Size() != s.Bytes {
			t.Errorf("shard %d: %+v, %d bytes, want %d tokens", i, s, info.Size(), want[i])
		}
	}
}

func TestWriterDiskFull(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	w := &writer{vocabSize: 100, limit: 20}
	w.begin(0, 0)
	if err := w.add(document{}, []Encoding{{IDs: []uint32{1}, WordStart: []bool{true}}}); err != nil {
		t.Fatal(err)
	}
	wantError(t, w.writeTo(f), "no space left")
}
