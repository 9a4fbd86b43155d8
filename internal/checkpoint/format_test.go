package checkpoint

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestFormatStays compares what is written with a checkpoint that lies under testdata: a difference needs another
// FormatVersion, and what was written before must load.
func TestFormatStays(t *testing.T) {
	const step = 10
	golden := filepath.Join("testdata", fmt.Sprint("v", FormatVersion))
	out := t.TempDir()
	want := snapshot(t, modelDir(t), step, 8)
	if err := Save(t.Context(), SaveConfig{OutputDir: out}, want); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.RemoveAll(golden); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(golden, os.DirFS(filepath.Join(out, Name(step)))); err != nil {
			t.Fatal(err)
		}
	}
	written := tree(t, filepath.Join(out, Name(step)))
	for name, text := range tree(t, golden) {
		if written[name] != text {
			t.Errorf("%s is not what it was", name)
		}
		delete(written, name)
	}
	for name := range written {
		t.Errorf("%s is new", name)
	}
	for version := 1; version <= FormatVersion; version++ {
		c, err := Load(context.Background(), filepath.Join("testdata", fmt.Sprint("v", version)))
		if err != nil {
			t.Fatal(err)
		}
		checkTensors(t, c, want)
		if c.State.Step != step || c.State.Lanes != want.State.Lanes || c.State.Seeds != want.State.Seeds {
			t.Errorf("version %d: state %+v", version, c.State)
		}
	}
}
