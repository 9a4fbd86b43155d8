package generation

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCounts(t *testing.T) {
	dir := t.TempDir()
	for n, step := range map[int]int64{2: 100, 3: 300, 5: 200} { // 1 and 4 were claimed and never began
		if err := Begin(dir, n, step, Run{}); err != nil {
			t.Fatal(err)
		}
	}
	claimed(t, dir, 6, "a")
	h, err := Look(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		generation int
		step       int64
		want       bool
	}{
		{0, 100, true}, {0, 101, false}, {1, 100, true}, {1, 101, false}, // 2 began at 100
		{2, 200, true}, {2, 201, false}, {3, 200, true}, {3, 300, false}, // 5 at 200
		{4, 200, true}, {4, 250, false}, {5, 1000, true}, {6, 1000, true}, {9, 1000, true},
	} {
		if got := h.Counts(c.generation, c.step); got != c.want {
			t.Errorf("step %d of generation %d counts: %v", c.step, c.generation, got)
		}
	}
}

func TestOtherNamesAreNotLookedAt(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, privateDir, "collectives"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lock", "model.json", "generation-", "generation-01", "generation-x", "generation-5.new", "start-5", "start-x-3", "start-05-3",
		".new-outcome.json-17", "generation--1"} {
		if err := os.WriteFile(filepath.Join(dir, privateDir, name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	h, err := Look(dir)
	if err != nil || h.highest != -1 || len(h.starts) > 0 {
		t.Errorf("%+v (%v)", h, err)
	}
	if err := os.WriteFile(filepath.Join(dir, privateDir, "generation-99999999999999999999"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Look(dir); err == nil {
		t.Error("a number that is too large was passed over")
	}
}

func TestNext(t *testing.T) {
	dir, logs := t.TempDir(), t.TempDir()
	want := func(n int) {
		t.Helper()
		if got, err := Next(dir, logs); err != nil || got != n {
			t.Errorf("next is %d (%v), want %d", got, err, n)
		}
	}
	want(0)
	for _, name := range []string{"attempt_4", "attempt_x", "attempt_99.old", "other"} {
		if err := os.Mkdir(filepath.Join(logs, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	want(5)
	for name, state := range map[string]string{"checkpoint-10": `{"generation": 7}`, "checkpoint-20": `{"generation": `, "other": `{"generation": 90}`} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "ddprun_state.json"), []byte(state), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want(8)
	claimed(t, dir, 11, "a")
	want(12)
	if err := Begin(dir, 13, 0, Run{}); err != nil {
		t.Fatal(err)
	}
	want(14)
	if got, err := Next(dir, ""); err != nil || got != 14 {
		t.Errorf("without logs: %d (%v)", got, err)
	}
}

func TestSmallFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	if data, err := ReadFile(dir, "outcome.json"); err != nil || data != nil {
		t.Errorf("%q (%v)", data, err)
	}
	for _, text := range []string{`{"code": 75}`, `{}`} {
		if err := WriteFile(dir, "outcome.json", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if data, err := ReadFile(dir, "outcome.json"); err != nil || string(data) != text {
			t.Errorf("%q (%v)", data, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, privateDir, "outcome.json")); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, privateDir)); err != nil || len(entries) > 0 {
		t.Errorf("left: %v (%v)", entries, err)
	}
}
