package hf

import (
	"slices"
	"testing"
)

// Roles are those of the tokenizer that transformers loads, from the older files
// and from the tokenizer.json made of them.
func TestReadSpecialTokensEqualsTransformers(t *testing.T) {
	for dir, c := range tokenizerCases(t) {
		s, err := ReadSpecialTokens(dir)
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		got := map[string]string{"bos_token": s.BOS, "eos_token": s.EOS, "unk_token": s.UNK, "sep_token": s.SEP,
			"pad_token": s.PAD, "cls_token": s.CLS, "mask_token": s.MASK}
		for role, token := range got {
			if token != c.Roles[role] {
				t.Errorf("%s: %s is %q, transformers has %q", dir, role, token, c.Roles[role])
			}
		}
		// transformers counts T5's user-defined pieces as special; they are ordinary
		// text in the tokenizer.json that it writes.
		all := slices.DeleteFunc(slices.Clone(c.All), func(token string) bool { return token == "<user>" })
		if !slices.Equal(s.All, all) {
			t.Errorf("%s: all are %q, transformers has %q", dir, s.All, all)
		}
	}
}

func TestReadSpecialTokens(t *testing.T) {
	tokenizer := []byte(`{"added_tokens":[{"id":0,"content":"[CLS]","special":true},{"id":1,"content":"[new]","special":true},
		{"id":2,"content":"word","special":false}],"model":{}}`)
	dir := t.TempDir()
	writeFile(t, dir, tokenizerFile, tokenizer)
	writeFile(t, dir, ConfigFile, []byte(`{"model_type":"bert"}`))
	writeFile(t, dir, tokenizerConfigFile, []byte(`{"model_max_length":512,"mask_token":"[M]","pad_token":null}`))
	s, err := ReadSpecialTokens(dir)
	if err != nil {
		t.Fatal(err)
	}
	// [SEP] would be BERT's, but this tokenizer does not have it
	if s.CLS != "[CLS]" || s.MASK != "[M]" || s.SEP != "" || s.PAD != "" || s.MaxLength != 512 {
		t.Errorf("got %+v", s)
	}
	if want := []string{"[CLS]", "[M]", "[new]"}; !slices.Equal(s.All, want) {
		t.Errorf("all are %q, want %q", s.All, want)
	}
	writeFile(t, dir, tokenizerConfigFile, []byte(`{"model_max_length":1000000000000000019884624838656}`))
	if s, err = ReadSpecialTokens(dir); err != nil || s.MaxLength != 0 {
		t.Errorf("no limit reads as %+v (%v)", s, err)
	}
	writeFile(t, dir, tokenizerConfigFile, []byte(`{"model_max_length":"512"}`))
	_, err = ReadSpecialTokens(dir)
	wantError(t, err, tokenizerConfigFile, "model_max_length")
	writeFile(t, dir, tokenizerFile, []byte(`{"added_tokens":[{"id":0}]}`))
	_, err = ReadSpecialTokens(dir)
	wantError(t, err, tokenizerFile, "added_tokens")
}
