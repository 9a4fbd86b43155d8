package hf

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// tokenizerCase is a want.json of testdata/tokenizers.
type tokenizerCase struct {
	Roles     map[string]string
	All       []string
	Tokenizer any
}

func tokenizerCases(t testing.TB) map[string]tokenizerCase {
	t.Helper()
	dirs, err := filepath.Glob("testdata/tokenizers/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no fixtures", err)
	}
	cases := map[string]tokenizerCase{}
	for _, dir := range dirs {
		data, err := os.ReadFile(filepath.Join(dir, "want.json"))
		if err != nil {
			t.Fatal(err)
		}
		var c tokenizerCase
		if err := json.Unmarshal(data, &c); err != nil {
			t.Fatal(err)
		}
		cases[dir] = c
	}
	return cases
}

// diffJSON describes the first differences between two parsed JSON values.
func diffJSON(at string, got, want any) []string {
	g, ok := got.(map[string]any)
	w, ok2 := want.(map[string]any)
	if ok && ok2 {
		var diffs []string
		for key := range w {
			diffs = append(diffs, diffJSON(at+"."+key, g[key], w[key])...)
		}
		for key := range g {
			if _, ok := w[key]; !ok {
				diffs = append(diffs, at+"."+key+" is not wanted")
			}
		}
		return diffs
	}
	gl, ok := got.([]any)
	wl, ok2 := want.([]any)
	if ok && ok2 && len(gl) == len(wl) {
		var diffs []string
		for i := range wl {
			diffs = append(diffs, diffJSON(at+"[]", gl[i], wl[i])...)
		}
		return diffs
	}
	if !reflect.DeepEqual(got, want) {
		short := func(v any) string { b, _ := json.Marshal(v); return string(b[:min(len(b), 200)]) }
		return []string{at + " is " + short(got) + ", want " + short(want)}
	}
	return nil
}

// The tokenizer.json made in Go is what transformers makes, in every field.
func TestTokenizerJSONEqualsTransformers(t *testing.T) {
	for dir, c := range tokenizerCases(t) {
		data, err := TokenizerJSON(dir)
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		var got any
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		diffs := diffJSON("", got, c.Tokenizer)
		for _, diff := range diffs[:min(len(diffs), 10)] {
			t.Errorf("%s: %s", dir, diff)
		}
	}
}

func TestTokenizerJSONAsItIs(t *testing.T) {
	dir := t.TempDir()
	const text = "{ \"model\": {\"odd\": 1.0} }\n"
	writeFile(t, dir, tokenizerFile, []byte(text))
	writeFile(t, dir, wordPieceFile, []byte("[UNK]\n"))
	if got, err := TokenizerJSON(dir); err != nil || string(got) != text {
		t.Errorf("got %q (%v), want %q", got, err, text)
	}
}

// The full-sized tokenizers beside which DDPRUN_TOKENIZER_DATA keeps their older
// files, or which hold what such files hold.
func TestTokenizerJSONFullSize(t *testing.T) {
	data := os.Getenv("DDPRUN_TOKENIZER_DATA")
	if data == "" {
		t.Skip("DDPRUN_TOKENIZER_DATA does not name a directory with bert.json, roberta.json, gpt2.json, t5.json, t5.spiece.model")
	}
	for _, c := range []struct{ family, model, config string }{
		{"bert", "bert", `{}`},
		{"bert_cased", "bert", `{"do_lower_case": false}`},
		{"roberta", "roberta", `{"mask_token": {"content": "<mask>", "lstrip": true, "special": true}}`},
		{"gpt2", "gpt2", `{}`},
		{"t5", "t5", `{}`},
	} {
		text, err := os.ReadFile(filepath.Join(data, c.family+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var want map[string]any
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		writeFile(t, dir, ConfigFile, []byte(`{"model_type": "`+c.model+`"}`))
		writeFile(t, dir, tokenizerConfigFile, []byte(c.config))
		writeOldFiles(t, dir, data, c.family, want["model"].(map[string]any))
		made, err := TokenizerJSON(dir)
		if err != nil {
			t.Errorf("%s: %v", c.family, err)
			continue
		}
		var got map[string]any
		if err := json.Unmarshal(made, &got); err != nil {
			t.Fatal(err)
		}
		diffs := diffJSON("", got, want)
		diffs = slices.DeleteFunc(diffs, func(diff string) bool {
			// transformers 5 writes these otherwise than the version that made the files; ids are the same
			return strings.HasPrefix(diff, ".model.continuing_subword_prefix") || strings.HasPrefix(diff, ".model.end_of_word_suffix") ||
				c.family == "gpt2" && strings.HasPrefix(diff, ".post_processor") ||
				c.family == "roberta" && strings.HasPrefix(diff, ".added_tokens[].normalized")
		})
		for _, diff := range diffs[:min(len(diffs), 5)] {
			t.Errorf("%s: %s", c.family, diff)
		}
	}
}

// writeOldFiles writes the vocabulary of a tokenizer.json as the files that were
// there before it.
func writeOldFiles(t *testing.T, dir, data, family string, model map[string]any) {
	t.Helper()
	switch {
	case family == "t5":
		spiece, err := os.ReadFile(filepath.Join(data, "t5.spiece.model"))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, dir, sentencePieceFile, spiece)
	case model["type"] == "WordPiece":
		vocab := model["vocab"].(map[string]any)
		lines := make([]string, len(vocab))
		for token, id := range vocab {
			lines[int(id.(float64))] = token
		}
		writeFile(t, dir, wordPieceFile, []byte(strings.Join(lines, "\n")+"\n"))
	default:
		vocab, err := json.Marshal(model["vocab"])
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, dir, bpeVocabFile, vocab)
		merges := "#version: 0.2\n"
		for _, merge := range model["merges"].([]any) {
			pair := merge.([]any)
			merges += pair[0].(string) + " " + pair[1].(string) + "\n"
		}
		writeFile(t, dir, bpeMergesFile, []byte(merges))
	}
}

func TestTokenizerErrors(t *testing.T) {
	bert := map[string]string{ConfigFile: `{"model_type":"bert"}`, wordPieceFile: "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"}
	gpt2 := map[string]string{ConfigFile: `{"model_type":"gpt2"}`, bpeVocabFile: `{"a":0,"b":1,"ab":2}`, bpeMergesFile: "a b\n"}
	t5 := map[string]string{ConfigFile: `{"model_type":"t5"}`}
	for _, c := range []struct {
		name  string
		base  map[string]string
		file  string
		text  string
		words []string
	}{
		{"no files", nil, "README.md", "", []string{tokenizerFile, wordPieceFile, "AutoTokenizer"}},
		{"unsupported class", bert, tokenizerConfigFile, `{"tokenizer_class":"XLNetTokenizer"}`, []string{"XLNetTokenizer", "AutoTokenizer"}},
		{"broken tokenizer.json", bert, tokenizerFile, `{"model":`, []string{tokenizerFile, "invalid JSON"}},
		{"tokenizer.json is not UTF-8", bert, tokenizerFile, "{\"\xff\":1}", []string{tokenizerFile, "UTF-8"}},
		{"empty vocab.txt", bert, wordPieceFile, "", []string{wordPieceFile, "empty"}},
		{"vocab.txt is not UTF-8", bert, wordPieceFile, "\xff\n", []string{wordPieceFile, "UTF-8"}},
		{"broken tokenizer_config.json", bert, tokenizerConfigFile, "{", []string{tokenizerConfigFile, "invalid JSON"}},
		{"wrong type", bert, tokenizerConfigFile, `{"do_lower_case":"yes"}`, []string{tokenizerConfigFile, "do_lower_case", "true or false"}},
		{"role is a number", bert, tokenizerConfigFile, `{"cls_token":7}`, []string{tokenizerConfigFile, "cls_token", "7"}},
		{"no cls", bert, tokenizerConfigFile, `{"cls_token":null}`, []string{"cls_token"}},
		{"class is a list", bert, tokenizerConfigFile, `{"tokenizer_class":[]}`, []string{tokenizerConfigFile, "tokenizer_class"}},
		{"extras", bert, specialTokensMapFile, `{"additional_special_tokens":3}`, []string{specialTokensMapFile, "additional_special_tokens"}},
		{"added", bert, addedTokensFile, `{"x":"y"}`, []string{addedTokensFile, "x"}},
		{"decoder id", bert, tokenizerConfigFile, `{"added_tokens_decoder":{"x":"y"}}`, []string{"added_tokens_decoder", `"x"`}},
		{"no merges.txt", map[string]string{ConfigFile: gpt2[ConfigFile]}, bpeVocabFile, `{"a":0}`, []string{bpeMergesFile}},
		{"empty vocab.json", gpt2, bpeVocabFile, `{}`, []string{bpeVocabFile, "empty"}},
		{"id is a string", gpt2, bpeVocabFile, `{"a":"0"}`, []string{bpeVocabFile, `"a"`}},
		{"id is negative", gpt2, bpeVocabFile, `{"a":-1}`, []string{bpeVocabFile, `"a"`, "-1"}},
		{"merge of one", gpt2, bpeMergesFile, "a b\nab\n", []string{bpeMergesFile, "line 2"}},
		{"merge of three", gpt2, bpeMergesFile, "a b ab\n", []string{bpeMergesFile, "line 1"}},
		{"merge of unknown", gpt2, bpeMergesFile, "#version\nb a\n", []string{bpeMergesFile, "line 2", `"ba"`}},
		{"empty spiece", t5, sentencePieceFile, "", []string{sentencePieceFile, "no pieces"}},
		{"broken spiece", t5, sentencePieceFile, "\x0a\xff", []string{sentencePieceFile, "not a SentencePiece model"}},
		{"spiece without unknown", t5, sentencePieceFile, "\x0a\x03\x0a\x01a", []string{sentencePieceFile, "unigram"}},
	} {
		dir := t.TempDir()
		for name, text := range c.base {
			writeFile(t, dir, name, []byte(text))
		}
		writeFile(t, dir, c.file, []byte(c.text))
		_, err := TokenizerJSON(dir)
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		wantError(t, err, append(c.words, dir)...)
	}
	dir := t.TempDir()
	spiece, err := os.ReadFile("testdata/tokenizers/t5/" + sentencePieceFile)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, sentencePieceFile, spiece)
	writeFile(t, dir, tokenizerConfigFile, []byte(`{"tokenizer_class":"T5Tokenizer","extra_ids":1000000000}`))
	_, err = TokenizerJSON(dir)
	wantError(t, err, "extra_ids", "1000000000")
}

func TestTokenizerOfNoDirectory(t *testing.T) {
	dir := t.TempDir()
	_, err := TokenizerJSON(filepath.Join(dir, "absent"))
	wantError(t, err, "absent", "does not exist")
	_, err = TokenizerJSON(writeFile(t, dir, "file", nil))
	wantError(t, err, "file", "is a file")
}
