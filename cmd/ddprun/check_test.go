package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/hf"
)

func TestCheckModel(t *testing.T) {
	const bert = `{"model_type": "bert", "architectures": ["BertModel"]}`
	for _, c := range []struct {
		name, config string
		change       func(t *testing.T) error
		want         string // empty: no error
	}{
		{"encoder only", bert, nil, ""},
		{"one of two", `{"model_type": "bert", "architectures": ["Mine", "BertForMaskedLM"]}`, nil, ""},
		{"no architecture named", `{"model_type": "bert"}`, nil, ""},
		{"no model_type", `{"architectures": ["BertModel"]}`, nil, "model_type is missing"},
		{"architectures not a list", `{"model_type": "bert", "architectures": 3}`, nil, "architectures must be a list"},
		{"no weights: the worker decides", bert, removeWeights, ""},
		{"index that leads outside", bert, func(t *testing.T) error {
			put(t, "model/model.safetensors.index.json", `{"weight_map": {"x": "../outside.safetensors"}}`)
			put(t, "outside.safetensors", "")
			return removeWeights(t)
		}, "../outside.safetensors"},
		{"damaged weights", bert, func(*testing.T) error { return os.Truncate("model/model.safetensors", 20) }, "model.safetensors"},
	} {
		workplace(t)
		put(t, "model/config.json", c.config)
		if c.change != nil {
			if err := c.change(t); err != nil {
				t.Fatal(err)
			}
		}
		err := checkModel("model")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// What the worker trains is not refused here: every directory that internal/model is tested with, and the class that its checkpoints bear.
func TestCheckModelTakesWhatTheWorkerTrains(t *testing.T) {
	goldens, err := filepath.Glob("../../internal/model/testdata/*/golden.safetensors")
	if err != nil || len(goldens) < 22 {
		t.Fatalf("found %d models, %v", len(goldens), err)
	}
	for _, golden := range goldens {
		dir := filepath.Dir(golden)
		if err := checkModel(dir); err != nil {
			t.Error(err)
		}
		c, err := hf.ReadConfig(dir)
		if err != nil {
			t.Fatal(err)
		}
		family, err := c.ModelType()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(dir, "expected.json"))
		if err != nil {
			t.Fatal(err)
		}
		var expected struct{ Architecture string }
		if err := json.Unmarshal(raw, &expected); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(architectures[family], expected.Architecture) {
			t.Errorf("%s: a checkpoint of it, a %s, would be refused", dir, expected.Architecture)
		}
	}
}

func removeWeights(*testing.T) error { return os.Remove("model/model.safetensors") }

func TestCheckPaths(t *testing.T) {
	workplace(t)
	put(t, "a[1].txt", "a file whose name looks like a pattern")
	for _, c := range []struct{ path, want string }{
		{"text.txt", ""},
		{"*.txt", ""},
		{"a[1].txt", ""},
		{"*.md", "*.md: no such file"},
		{"model", ""},
		{"a[", "a[: syntax error in pattern"},
	} {
		err := checkPaths([]string{"text.txt", c.path})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.path, err, c.want)
		}
	}
}

func TestCheckWritable(t *testing.T) {
	workplace(t)
	if err := os.Symlink("nowhere", "dangling"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("locked", 0o555); err != nil {
		t.Fatal(err)
	}
	cases := []struct{ dir, want string }{
		{"new/runs/first", ""},
		{".", ""},
		{"model", ""},
		{t.TempDir() + "/new", ""},
		{"text.txt", "text.txt is a file"},
		{"text.txt/runs", "text.txt is a file"},
		{"dangling", "dangling is a link that leads nowhere"},
		{"dangling/runs", "dangling is a link that leads nowhere"},
	}
	if os.Geteuid() != 0 { // root may write everywhere
		cases = append(cases, []struct{ dir, want string }{
			{"locked", "cannot make files in locked: permission denied"},
			{"locked/runs/first", "cannot make files in locked: permission denied"},
		}...)
	}
	for _, c := range cases {
		err := checkWritable(c.dir)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.dir, err, c.want)
		}
	}
}
