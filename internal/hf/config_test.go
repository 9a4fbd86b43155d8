package hf

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// writeFile puts a file into dir, with the directories above it, and returns its
// path.
func writeFile(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func configOf(t testing.TB, text string) *Config {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, dir, ConfigFile, []byte(text))
	c, err := ReadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantError fails unless err is there and says all of the words.
func wantError(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
}

// What transformers wrote comes out byte for byte, also after a field was set to
// what it was.
func TestConfigRoundTrip(t *testing.T) {
	want, err := os.ReadFile("testdata/config/config.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ReadConfig("testdata/config")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Set("architectures", []string{"BertForMaskedLM"}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), ConfigFile)
	if err := c.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("wrote\n%s\nwant\n%s", got, want)
	}
}

func TestConfigKeepsOrderAndSpelling(t *testing.T) {
	c := configOf(t, `{"z": 1.50e-1, "a": {"y": 12345678901234567890, "b": []}, "u": "<\u00e9>&"}`)
	if err := c.Set("new", "<x>"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "out.json")
	if err := c.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "z": 1.50e-1,
  "a": {
    "y": 12345678901234567890,
    "b": []
  },
  "u": "<\u00e9>&",
  "new": "<x>"
}
`
	if string(got) != want {
		t.Errorf("wrote\n%s\nwant\n%s", got, want)
	}
}

func TestConfigSetKeepsSortedKeysSorted(t *testing.T) {
	c := configOf(t, `{"a": 1, "e": 2}`)
	if err := c.Set("dtype", "float32"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "dtype", "e"}; !slices.Equal(c.Keys(), want) {
		t.Errorf("keys are %v, want %v", c.Keys(), want)
	}
}

func TestConfigCloneIsIndependent(t *testing.T) {
	c := configOf(t, `{"a": 1}`)
	d := c.Clone()
	if err := d.Set("a", 2); err != nil {
		t.Fatal(err)
	}
	if err := d.Set("b", 3); err != nil {
		t.Fatal(err)
	}
	if n, _ := c.Int("a", 0); n != 1 || len(c.Keys()) != 1 {
		t.Errorf("the original has a = %d and keys %v", n, c.Keys())
	}
}

func TestConfigGetters(t *testing.T) {
	c := configOf(t, `{"model_type": "bert", "n": 12, "eps": 1e-12, "tie": true, "none": null, "list": ["A", "B"],
		"architectures": ["BertForMaskedLM"]}`)
	if n, err := c.Int("n", 1); n != 12 || err != nil {
		t.Error(n, err)
	}
	if n, err := c.Int("absent", 7); n != 7 || err != nil {
		t.Error(n, err)
	}
	if n, err := c.Int("none", 7); n != 7 || err != nil {
		t.Error(n, err)
	}
	if x, err := c.Float("eps", 1); x != 1e-12 || err != nil {
		t.Error(x, err)
	}
	if x, err := c.Float("n", 1); x != 12 || err != nil {
		t.Error(x, err)
	}
	if b, err := c.Bool("tie", false); !b || err != nil {
		t.Error(b, err)
	}
	if s, err := c.ModelType(); s != "bert" || err != nil {
		t.Error(s, err)
	}
	if a, err := c.Architectures(); !slices.Equal(a, []string{"BertForMaskedLM"}) || err != nil {
		t.Error(a, err)
	}
	if raw, ok := c.Raw("list"); string(raw) != `["A", "B"]` || !ok {
		t.Error(string(raw), ok)
	}
	_, err := c.Int("eps", 0)
	wantError(t, err, ConfigFile, "eps", "whole number", "1e-12")
	_, err = c.Float("tie", 0)
	wantError(t, err, ConfigFile, "tie", "number")
	_, err = c.Bool("n", false)
	wantError(t, err, ConfigFile, "n must be true or false")
	_, err = c.String("n", "")
	wantError(t, err, ConfigFile, "n must be a string")
}

func TestConfigErrors(t *testing.T) {
	dir := t.TempDir()
	_, err := ReadConfig(dir)
	wantError(t, err, dir, ConfigFile, "model.safetensors", "tokenizer.json")
	_, err = ReadConfig(filepath.Join(dir, "absent"))
	wantError(t, err, "absent", "does not exist")
	file := writeFile(t, dir, "file", nil)
	_, err = ReadConfig(file)
	wantError(t, err, file, "is a file")

	for text, words := range map[string]string{
		"":                       "unexpected EOF",
		"[1]":                    "not a JSON object",
		`{"a": 1`:                "invalid JSON",
		"{\n\"a\": 1,\n\"b\" 2}": "line 3",
		`{"a": 1} x`:             "more after",
		`{"a": 1, "a": 2}`:       `"a" occurs twice`,
		"{\"a\": \"\xff\"}":      "UTF-8",
		`{"a": NaN}`:             "invalid JSON",
	} {
		writeFile(t, dir, ConfigFile, []byte(text))
		_, err := ReadConfig(dir)
		wantError(t, err, ConfigFile, words)
	}
	writeFile(t, dir, ConfigFile, make([]byte, maxConfigBytes+1))
	_, err = ReadConfig(dir)
	wantError(t, err, ConfigFile, "larger than 16 MiB")

	_, err = configOf(t, `{}`).ModelType()
	wantError(t, err, "model_type is missing")
	_, err = configOf(t, `{"architectures": "Bert"}`).Architectures()
	wantError(t, err, "architectures must be a list")
}
