package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// makeDemo writes a demo's directory with one word that was learnt.
func makeDemo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"run/metrics.jsonl": `{"step":0,"epoch":0,"eval_loss":4.5,"eval_perplexity":90.02}
{"step":10,"epoch":1.5,"loss":4.1,"learning_rate":1e-4}
{"step":20,"epoch":3,"eval_loss":3.25,"eval_perplexity":25.79}
{"step":20,"epoch":3,"train_runtime":12}
`,
		"run/checkpoint-9/ddprun_state.json":  "{}",
		"run/checkpoint-20/ddprun_state.json": "{}",
		"before.jsonl": `{"sample":0,"token":3,"want":"prism","got":"house","before":"through the","after":"the rays go"}` + "\n" +
			`{"sample":0,"token":9,"want":"rays","got":"rays","before":"the","after":"go"}` + "\n",
		"after.jsonl": `{"sample":0,"token":3,"want":"prism","got":"prism","before":"through the","after":"the rays go"}` + "\n" +
			`{"sample":0,"token":9,"want":"rays","got":"rays","before":"the","after":"go"}` + "\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestShow(t *testing.T) {
	dir := makeDemo(t)
	var out bytes.Buffer
	if err := show(dir, &out, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"4.5000     3.2500", "90.02      25.79", "50.0 %    100.0 %    of 2", "after 20 steps",
		"through the [prism] the rays go", "before: house", "(1 of 1; 0 went the other way)", "checkpoint-20: the same"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("colours without being asked for")
	}
	out.Reset()
	if err := show(dir, &out, true); err != nil || !strings.Contains(out.String(), "\x1b[1m[prism]\x1b[0m") {
		t.Errorf("%v; no colour in:\n%s", err, &out)
	}
}

func TestShowNamesWhatIsWrong(t *testing.T) {
	for file, text := range map[string]string{
		"run/metrics.jsonl": `{"step":0,"eval_loss":4.5,"eval_perplexity":90}`,
		"before.jsonl":      `{"sample":0,`,
		"after.jsonl":       ``,
	} {
		dir := makeDemo(t)
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := show(dir, &bytes.Buffer{}, false); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("damaged %s: %v", file, err)
		}
	}
	dir := makeDemo(t)
	for _, name := range []string{"checkpoint-9", "checkpoint-20"} {
		if err := os.RemoveAll(filepath.Join(dir, "run", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := show(dir, &bytes.Buffer{}, false); err == nil || !strings.Contains(err.Error(), "holds no checkpoint") {
		t.Errorf("no checkpoint: %v", err)
	}
}

func TestContextIsCutBetweenWords(t *testing.T) {
	for _, c := range []struct {
		text, last, first string
	}{
		{"", "", ""},
		{"the ray", "the ray", "the ray"},
		{"of the rays", "the rays", "of the"},
		{"\u03b1\u03b2\u03b3 \u03b4\u03b5\u03b6\u03b7 \u03b8", "\u03b4\u03b5\u03b6\u03b7 \u03b8", "\u03b1\u03b2\u03b3 \u03b4\u03b5\u03b6\u03b7"},
		{"refrangibility", "", ""},
	} {
		if got := lastRunes(c.text, 8); got != c.last {
			t.Errorf("last of %q: got %q, want %q", c.text, got, c.last)
		}
		if got := firstRunes(c.text, 8); got != c.first {
			t.Errorf("first of %q: got %q, want %q", c.text, got, c.first)
		}
	}
}
