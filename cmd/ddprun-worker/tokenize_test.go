package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// goldens are the recordings of internal/tokenizer.
const goldens = "../../internal/tokenizer/testdata"

func unzip(t *testing.T, name string) []byte {
	t.Helper()
	file, err := os.Open(filepath.Join(goldens, name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// modelDir is a directory with the tokenizer of a family.
func modelDir(t *testing.T, family string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), unzip(t, family+".json.gz"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tokenize runs the command with input and returns its output.
func tokenize(input string, args ...string) (string, error) {
	command := newRootCommand()
	command.SetArgs(append([]string{"tokenize"}, args...))
	command.SetIn(strings.NewReader(input))
	var out bytes.Buffer
	command.SetOut(&out)
	command.SetErr(io.Discard)
	err := command.Execute()
	return out.String(), err
}

type object struct {
	IDs     []int    `json:"ids"`
	Types   []int    `json:"type_ids"`
	Words   []int    `json:"words"`
	Offsets [][2]int `json:"offsets"`
}

func objects(t *testing.T, output string) []object {
	t.Helper()
	var all []object
	for scanner := json.NewDecoder(strings.NewReader(output)); scanner.More(); {
		var o object
		if err := scanner.Decode(&o); err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}

// The command's output on hostile texts is what Python recorded, for every family.
func TestTokenizeGoldens(t *testing.T) {
	var input strings.Builder
	for line := range bytes.Lines(unzip(t, "inputs.hostile.jsonl.gz")) {
		var text struct{ T json.RawMessage }
		if err := json.Unmarshal(line, &text); err != nil {
			t.Fatal(err)
		}
		input.Write(text.T)
		input.WriteByte('\n')
	}
	for _, family := range []string{"bert", "bert_cased", "roberta", "gpt2", "t5", "llama", "llama3"} {
		output, err := tokenize(input.String(), modelDir(t, family), "--jsonl", "--words", "--offsets")
		if err != nil {
			t.Fatal(err)
		}
		got := objects(t, output)
		scanner := bufio.NewScanner(bytes.NewReader(unzip(t, "exp."+family+".hostile.jsonl.gz")))
		i := 0
		for ; scanner.Scan(); i++ {
			var want struct{ IDs, Off, W []int }
			if err := json.Unmarshal(scanner.Bytes(), &want); err != nil {
				t.Fatal(err)
			}
			var flat []int
			for _, span := range got[i].Offsets {
				flat = append(flat, span[0], span[1])
			}
			same := slices.Equal(got[i].IDs, want.IDs)
			if want.W != nil {
				same = same && slices.Equal(got[i].Words, want.W) && slices.Equal(flat, want.Off)
			}
			if !same {
				t.Errorf("%s, text %d:\n got %+v\nwant %+v", family, i, got[i], want)
			}
		}
		if i == 0 || i != len(got) {
			t.Errorf("%s: %d objects for %d texts", family, len(got), i)
		}
	}
}

func TestTokenizeForms(t *testing.T) {
	dir := modelDir(t, "bert")
	same := func(name, input string, args []string, wantInput string, wantArgs ...string) {
		t.Helper()
		got, err := tokenize(input, append([]string{dir}, args...)...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		want, err := tokenize(wantInput, append([]string{dir, "--jsonl"}, wantArgs...)...)
		if err != nil || want == "" && wantInput != "" {
			t.Errorf("%s: %q, %v", name, want, err)
		}
		if got != want {
			t.Errorf("%s:\n got %swant %s", name, got, want)
		}
	}
	same("no input", "", nil, "")
	same("an empty line", "\n", nil, `""`)
	same("lines, the last without an end", "a b\n\nc", nil, `"a b"`+"\n"+`""`+"\n"+`"c"`)
	same("CRLF", "light\r\nrays\r\n", []string{"--offsets"}, `"light"`+"\n"+`"rays"`, "--offsets")
	same("CR inside", "light\rrays\n", []string{"--words"}, `"light\rrays"`, "--words")
	same("NUL", "a\x00b\n", []string{"--offsets"}, `"a\u0000b"`, "--offsets")
	same("replaced bytes", "a\xe2\x82\xff b\n", []string{"--encoding-errors", "replace", "--offsets"}, `"a\ufffd\ufffd b"`, "--offsets")
	same("replaced surrogates", `"\ud83d\ude00 \ud83d \ude00"`, []string{"--jsonl", "--encoding-errors", "replace", "--offsets"},
		`"\ud83d\ude00 \ufffd \ufffd"`, "--offsets")
	same("a line longer than any buffer", strings.Repeat("light ", 100_000)+"\n", nil, `"`+strings.Repeat("light ", 100_000)+`"`)

	got, err := tokenize(`["the light","rays"]`, dir, "--jsonl", "--pairs", "--words", "--offsets", "--max-length", "5")
	if err != nil {
		t.Fatal(err)
	}
	pair := objects(t, got)[0]
	if want := []int{0, 0, 0, 1, 1}; !reflect.DeepEqual(pair.Types, want) || len(pair.IDs) != 5 || len(pair.Words) != 5 {
		t.Errorf("a pair cut to 5 tokens: %s", got)
	}
	got, err = tokenize("the light", dir, "--no-special", "--words", "--offsets")
	if err != nil {
		t.Fatal(err)
	}
	plain := objects(t, got)[0]
	if !reflect.DeepEqual(plain.Words, []int{0, 1}) || !reflect.DeepEqual(plain.Offsets, [][2]int{{0, 3}, {4, 9}}) {
		t.Errorf("without special tokens: %s", got)
	}
}

func TestTokenizeBadInput(t *testing.T) {
	dir := modelDir(t, "bert")
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "tokenizer.json"), []byte(`{"version":"1.0","model":{"type":"BPE"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, input string
		args        []string
		want        string
		lines       int // written before the error
	}{
		{"no directory", "", nil, "one model directory", 0},
		{"two directories", "", []string{dir, dir}, "one model directory", 0},
		{"missing directory", "", []string{"nowhere"}, "nowhere", 0},
		{"broken tokenizer", "", []string{broken}, filepath.Join(broken, "tokenizer.json"), 0},
		{"unknown flag", "", []string{dir, "--word"}, "--word", 0},
		{"pairs of plain lines", "", []string{dir, "--pairs"}, "--jsonl", 0},
		{"length 0", "", []string{dir, "--max-length", "0"}, "at least 1", 0},
		{"length below the special tokens", "", []string{dir, "--max-length", "1"}, "2 special tokens", 0},
		{"no such way with errors", "", []string{dir, "--encoding-errors", "ignore"}, "strict or replace", 0},
		{"not UTF-8", "a\n\nb\xffc\nd\n", []string{dir}, "line 3", 2},
		{"not UTF-8 in JSON", "\"a\"\n\"\xff\"\n", []string{dir, "--jsonl"}, "line 2", 1},
		{"not JSON", "\"a\"\n\"b\n", []string{dir, "--jsonl"}, "line 2", 1},
		{"empty line as JSON", "\"a\"\n\n", []string{dir, "--jsonl"}, "line 2", 1},
		{"number", "1\n", []string{dir, "--jsonl"}, "want a JSON string", 0},
		{"null", "null\n", []string{dir, "--jsonl"}, "want a JSON string", 0},
		{"array where a string should be", `["a"]`, []string{dir, "--jsonl"}, "want a JSON string", 0},
		{"string where a pair should be", `"a"`, []string{dir, "--jsonl", "--pairs"}, "array of two strings", 0},
		{"pair with null", `["a",null]`, []string{dir, "--jsonl", "--pairs"}, "array of two strings", 0},
		{"lone surrogate", `"a\ud83d"`, []string{dir, "--jsonl"}, `\ud83d`, 0},
		{"pair with too little room", `["a","b"]`, []string{dir, "--jsonl", "--pairs", "--max-length", "2"}, "line 1", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := tokenize(c.input, c.args...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v does not say %q", err, c.want)
			}
			if code := exitCode(err); code != exitInput {
				t.Errorf("exit code %d", code)
			}
			if got := len(objects(t, out)); got != c.lines {
				t.Errorf("%d objects, want %d", got, c.lines)
			}
		})
	}
}
