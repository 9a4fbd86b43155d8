package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every kind of damage to every file is noticed, and the message names the file.
func TestDamageIsNoticed(t *testing.T) {
	out := t.TempDir()
	mustSave(t, out, 10)
	dir := filepath.Join(out, "checkpoint-10")
	damage := map[string]func(t *testing.T, path string, data []byte){
		"first bit":  func(t *testing.T, path string, _ []byte) { flip(t, path, 0) },
		"middle bit": func(t *testing.T, path string, data []byte) { flip(t, path, len(data)/2) },
		"last bit":   func(t *testing.T, path string, data []byte) { flip(t, path, len(data)-1) },
		"cut": func(t *testing.T, path string, data []byte) {
			if err := os.Truncate(path, int64(len(data)/2)); err != nil {
				t.Fatal(err)
			}
		},
		"emptied": func(t *testing.T, path string, _ []byte) {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
		},
		"longer": func(t *testing.T, path string, data []byte) {
			if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"removed": func(t *testing.T, path string, _ []byte) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
	}
	for _, name := range names(t, dir) {
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for kind, do := range damage {
			do(t, path, append([]byte(nil), data...))
			if _, err := Load(context.Background(), dir); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s of %s: error %v", kind, name, err)
			}
			newest, broken, err := Latest(context.Background(), out)
			if err != nil || newest != nil || len(broken) != 1 || !strings.Contains(broken[0].Error(), "checkpoint-10") {
				t.Errorf("%s of %s: Latest gave %v, %v, %v", kind, name, newest, broken, err)
			}
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := Load(context.Background(), dir); err != nil {
		t.Fatalf("mended, but: %v", err)
	}
}

// What ends the reading of a checkpoint is the error, and no checkpoint is called broken for it.
func TestReadingEndsWithItsContext(t *testing.T) {
	out := t.TempDir()
	mustSave(t, out, 10)
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("enough")
	cancel(why)
	if _, err := Load(ctx, filepath.Join(out, "checkpoint-10")); err != why {
		t.Errorf("Load: %v", err)
	}
	if newest, broken, err := Latest(ctx, out); newest != nil || broken != nil || err != why {
		t.Errorf("Latest: %v, %v, %v", newest, broken, err)
	}
	if _, err := Decide(ctx, out, ResumeAuto, false); err != why {
		t.Errorf("Decide: %v", err)
	}
	if _, refused, err := Settle(ctx, out, 3, ResumeAuto, false, Run{}); refused != nil || err != why {
		t.Errorf("Settle: %v, %v", refused, err)
	}
}

func TestLatest(t *testing.T) {
	if newest, broken, err := Latest(context.Background(), filepath.Join(t.TempDir(), "missing")); newest != nil || broken != nil || err != nil {
		t.Errorf("%v %v %v", newest, broken, err)
	}
	out := t.TempDir()
	mustSave(t, out, 9, 10, 100, 1000)
	for _, name := range []string{"checkpoint-2000", "checkpoint-0300"} { // another program's; no name of ours
		if err := os.Mkdir(filepath.Join(out, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("checkpoint-10", filepath.Join(out, "checkpoint-3000")); err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(out, "checkpoint-1000", optimizerFile), 400)
	newest, broken, err := Latest(context.Background(), out)
	if err != nil || newest == nil || newest.State.Step != 100 {
		t.Fatalf("newest %+v, error %v", newest, err)
	}
	if len(broken) != 2 || !strings.Contains(broken[0].Error(), "checkpoint-2000") ||
		!strings.Contains(broken[1].Error(), "checkpoint-1000") {
		t.Errorf("broken: %v", broken)
	}
}

// reseal writes a state with a valid checksum, whatever it says.
func reseal(t *testing.T, dir string, change func(*State)) {
	t.Helper()
	path := filepath.Join(dir, stateFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var s State
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	change(&s)
	version := s.Version
	if data, err = s.encode(); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), fmt.Sprintf(`"version": %d`, FormatVersion), `"version": `+string(rune('0'+version)), 1)
	blank := []byte(text)
	copy(blank[len(digestPrefix):], noDigest)
	copy(blank[len(digestPrefix):], hexDigest(blank))
	if err := os.WriteFile(path, blank, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLyingStates(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*State)
		want   string
	}{
		{"newer format", func(s *State) { s.Version = 3 }, "format version 3"},
		{"no version", func(s *State) { s.Version = 0 }, "format version 0"},
		{"renamed", func(s *State) { s.Step = 11 }, "of step 11"},
		{"outside", func(s *State) { s.Files["../x"] = File{} }, "lies elsewhere"},
		{"absolute", func(s *State) { s.Files["/etc/passwd"] = File{} }, "lies elsewhere"},
		{"no optimizer", func(s *State) { delete(s.Files, optimizerFile) }, "does not list optimizer.safetensors"},
		{"a directory", func(s *State) { s.Files["."] = File{} }, "not a regular file"},
		{"unchanged", func(s *State) {}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := t.TempDir()
			mustSave(t, out, 10)
			dir := filepath.Join(out, "checkpoint-10")
			reseal(t, dir, c.change)
			_, err := Load(context.Background(), dir)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestLoadOfAnotherProgramsDirectory(t *testing.T) {
	if _, err := Load(context.Background(), modelDir(t)); err == nil || !strings.Contains(err.Error(), "name it as model") {
		t.Errorf("error %v", err)
	}
}

func FuzzDecodeState(f *testing.F) {
	good, err := State{Step: 3, Config: json.RawMessage(`{"a": 1}`)}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Add([]byte(digestPrefix))
	f.Add([]byte(digestPrefix + noDigest + "\"}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := decodeState(data); err == nil && hexDigest([]byte(strings.Replace(string(data), s.SHA256, noDigest, 1))) != s.SHA256 {
			t.Errorf("took %q", data)
		}
	})
}
