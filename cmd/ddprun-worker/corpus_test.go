package main

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/ddprun/ddprun/objectives"
)

func TestReadVocab(t *testing.T) {
	w := newWorkspace(t)
	tok, _, err := openTokenizer(w.path("model"))
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	raw, err := os.ReadFile(w.path("model/tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Model struct{ Vocab map[string]uint32 }
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	ids := file.Model.Vocab
	v, err := readVocab(w.path("model"), tok, len(ids))
	if err != nil {
		t.Fatal(err)
	}
	if v.Size != 4096 || v.CLS != ids["[CLS]"] || v.SEP != ids["[SEP]"] || v.Mask != ids["[MASK]"] || v.Pad != ids["[PAD]"] {
		t.Errorf("got %+v", v)
	}
	want := []uint32{ids["[CLS]"], ids["[SEP]"], ids["[MASK]"], ids["[PAD]"], ids["[UNK]"]}
	slices.Sort(want)
	slices.Sort(v.Special)
	if !slices.Equal(v.Special, want) {
		t.Errorf("special tokens %d, want %d", v.Special, want)
	}
	// A name that the tokenizer does not know is no token.
	w.write("model/tokenizer_config.json", `{"tokenizer_class": "BertTokenizer", "mask_token": "<hidden>", "pad_token": "[PAD]"}`)
	if v, err = readVocab(w.path("model"), tok, len(ids)); err != nil || v.Mask != objectives.NoToken || v.Pad != ids["[PAD]"] {
		t.Errorf("got %+v, %v", v, err)
	}
	w.write("model/tokenizer_config.json", `{`)
	if _, err = readVocab(w.path("model"), tok, len(ids)); err == nil {
		t.Error("a broken tokenizer_config.json: no error")
	}
}
