package checkpoint

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

func TestClean(t *testing.T) {
	if _, err := Clean(filepath.Join(t.TempDir(), "missing"), 1); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	mustSave(t, out, 10, 20, 30)
	private := filepath.Join(out, privateDir)
	for _, name := range []string{"save-g3-checkpoint-40", "save-g4-checkpoint-40", "delete-g2-checkpoint-5",
		"save-g1-model", "save-gx-checkpoint-1", "lock"} {
		if err := os.MkdirAll(filepath.Join(private, name, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(private, "save-g1-checkpoint-1"), nil, 0o644); err != nil { // a file: not ours
		t.Fatal(err)
	}
	// Killed after setting checkpoint-20 aside; and, of checkpoint-30, after its replacement had come.
	for from, to := range map[string]string{"checkpoint-20": "replaced-g3-checkpoint-20"} {
		if err := os.Rename(filepath.Join(out, from), filepath.Join(private, to)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(private, "replaced-g3-checkpoint-30"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Clean(out, 3); err != nil {
		t.Fatal(err)
	}
	wantNames(t, private, "lock", "save-g1-checkpoint-1", "save-g4-checkpoint-40", "save-gx-checkpoint-1")
	wantNames(t, out, privateDir, "checkpoint-10", "checkpoint-20", "checkpoint-30")
	for _, name := range []string{"checkpoint-20", "checkpoint-30"} {
		if _, err := Load(context.Background(), filepath.Join(out, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestStepOf(t *testing.T) {
	for name, want := range map[string]int64{"checkpoint-0": 0, "checkpoint-1": 1, "checkpoint-1200": 1200,
		Name(9223372036854775807): 9223372036854775807} {
		if step, ok := stepOf(name); !ok || step != want {
			t.Errorf("%s: %d %v", name, step, ok)
		}
	}
	for _, name := range []string{"checkpoint-", "checkpoint-01", "checkpoint--1", "checkpoint-1a", "xcheckpoint-1",
		"checkpoint-9223372036854775808", "checkpoint-1.tmp"} {
		if step, ok := stepOf(name); ok {
			t.Errorf("%s was read as step %d", name, step)
		}
	}
}
