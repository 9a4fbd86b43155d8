package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/ddprun/ddprun/test/kit"
)

// settings are keys of train.yaml.
type settings map[string]any

// workspace is a directory with a model and a text, in which the programs are run; all paths in it are relative.
type workspace struct {
	t   testing.TB
	dir string
	env []string // more variables for the programs
}

// newWorkspace holds model/, text.txt of documents lines and heldout.txt of 11.
func newWorkspace(t testing.TB, documents int) *workspace {
	t.Helper()
	w := &workspace{t: t, dir: t.TempDir()}
	kit.WriteModel(t, w.write)
	w.write("text.txt", kit.Lines(1, documents))
	w.write("heldout.txt", kit.Lines(2, 11))
	if err := os.Mkdir(w.path("tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	return w
}

// path is the absolute path of a file of the workspace.
func (w *workspace) path(name string) string { return filepath.Join(w.dir, name) }

func (w *workspace) write(name, content string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.path(name)), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path(name), []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *workspace) read(name string) string {
	w.t.Helper()
	return readFile(w.t, w.path(name))
}

// config writes name from settings that suit the workspace and changes to them, of which nil takes a key out.
func (w *workspace) config(name string, changes settings) {
	w.t.Helper()
	all := settings{"model": "model", "data": "text.txt", "text_unit": "line", "sample_unit": "document", "output_dir": "out",
		"device": "cpu", "per_device_train_batch_size": 2, "global_batch_size": 8, "max_steps": 20, "learning_rate": 1e-3, "warmup_steps": 2,
		"weight_decay": 0.01, "logging_steps": 1, "save_steps": 1000, "threads_per_rank": 1, "ddp_timeout": 60}
	maps.Copy(all, changes)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	text, err := yaml.Marshal(map[string]any(all))
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(name, string(text))
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// tree lists everything below the workspace with its mode and content, for a comparison of before and after.
func (w *workspace) tree() map[string]string {
	w.t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(w.dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		content := ""
		if info.Mode().IsRegular() {
			content = readFile(w.t, path)
		}
		name, _ := filepath.Rel(w.dir, path)
		found[name] = fmt.Sprint(info.Mode(), " ", content)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// sameTree fails the test where something below the workspace has changed since before.
func (w *workspace) sameTree(before map[string]string) {
	w.t.Helper()
	after := w.tree()
	for name, content := range after {
		if earlier, found := before[name]; !found {
			w.t.Errorf("%s was written", name)
		} else if earlier != content {
			w.t.Errorf("%s was changed", name)
		}
	}
	for name := range before {
		if _, found := after[name]; !found {
			w.t.Errorf("%s was removed", name)
		}
	}
}
