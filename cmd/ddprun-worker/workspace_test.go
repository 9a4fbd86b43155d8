package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/config"
)

// workspace is a directory with a small BERT without weights (it begins at random, the same each time) and two texts.
type workspace struct {
	t   *testing.T
	dir string
}

func newWorkspace(t *testing.T) *workspace {
	t.Helper()
	w := &workspace{t, t.TempDir()}
	t.Setenv("TMPDIR", w.path("tmp"))
	if err := os.Mkdir(w.path("tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	const model = "../../examples/tiny-bert/model"
	if err := os.CopyFS(w.path("model"), os.DirFS(model)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(w.path("model/model.safetensors")); err != nil { // this model is smaller and begins at random
		t.Fatal(err)
	}
	text, err := os.ReadFile(w.path("model/config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cfg map[string]any
	if err := json.Unmarshal(text, &cfg); err != nil {
		t.Fatal(err)
	}
	cfg["hidden_size"], cfg["num_attention_heads"], cfg["num_hidden_layers"], cfg["intermediate_size"] = 16, 2, 1, 32
	if text, err = json.Marshal(cfg); err != nil {
		t.Fatal(err)
	}
	w.write("model/config.json", string(text))
	w.write("text.txt", strings.Repeat("the quick brown fox jumps over the lazy dog and runs away\n\nnobody has seen it since then\n\n", 20))
	w.write("heldout.txt", "a hen and a duck went to the market\n\nthey came home with a goose and some extraordinarily unpronounceable words\n")
	return w
}

func (w *workspace) path(name string) string { return filepath.Join(w.dir, name) }

func (w *workspace) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *workspace) read(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(w.path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// config is a configuration of this workspace, in which lines come beside its own or take their place.
func (w *workspace) config(lines ...string) string {
	own := []string{"model: " + w.path("model"), "output_dir: " + w.path("runs/out"), "data: " + w.path("text.txt")}
	for _, line := range lines {
		key, _, _ := strings.Cut(line, ":")
		own = slices.DeleteFunc(own, func(old string) bool { return strings.HasPrefix(old, key+":") })
	}
	return strings.Join(append(own, lines...), "\n") + "\n"
}

// resolved is that configuration as ddprun gives it to its workers.
func (w *workspace) resolved(lines ...string) string {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "train.yaml")
	if err := os.WriteFile(file, []byte(w.config(lines...)), 0o600); err != nil {
		w.t.Fatal(err)
	}
	loaded, err := config.Load(file, nil, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := json.Marshal(loaded.Config)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// tree lists every file and directory with its size and time of change. Locks are left out: other processes may hold them, so they
// stay in directories that were there before.
func (w *workspace) tree() string {
	w.t.Helper()
	var list strings.Builder
	err := filepath.WalkDir(w.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		switch {
		case strings.HasPrefix(filepath.Base(path), ".lock"):
		case info.IsDir():
			fmt.Fprintln(&list, path)
		default:
			fmt.Fprintln(&list, path, info.Size(), info.ModTime().UnixNano())
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return list.String()
}

// worker runs a command of this program.
func worker(stdin string, args ...string) (stdout string, err error) {
	command := newRootCommand()
	command.SetArgs(args)
	command.SetIn(strings.NewReader(stdin))
	var out, logs bytes.Buffer
	command.SetOut(&out)
	command.SetErr(&logs)
	err = command.Execute()
	return out.String(), err
}

// wantRefused checks for exit code 78, a message with the given parts, and that nothing in the workspace has changed since before.
func (w *workspace) wantRefused(before string, err error, said ...string) {
	w.t.Helper()
	if code := exitCode(err); code != exitInput {
		w.t.Errorf("exit code %d, want %d: %v", code, exitInput, err)
	}
	for _, part := range said {
		if err != nil && !strings.Contains(err.Error(), part) {
			w.t.Errorf("%q does not say %q", err, part)
		}
	}
	if after := w.tree(); after != before {
		w.t.Errorf("before:\n%safter:\n%s", before, after)
	}
}
