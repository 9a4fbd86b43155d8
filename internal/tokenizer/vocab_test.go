package tokenizer

import (
	"encoding/json"
	"testing"
)

func TestVocabulary(t *testing.T) {
	g := committed(t)
	for _, family := range g.Families {
		tok := g.tokenizer(t, family)
		var file struct {
			AddedTokens []struct {
				ID      uint32
				Content string
			} `json:"added_tokens"`
			Model struct{ Vocab json.RawMessage }
		}
		if err := json.Unmarshal(g.json(t, family), &file); err != nil {
			t.Fatal(err)
		}
		size := 0
		byName := map[string]uint32{}
		if json.Unmarshal(file.Model.Vocab, &byName) != nil { // unigram: a list of token and score
			var list []any
			if err := json.Unmarshal(file.Model.Vocab, &list); err != nil {
				t.Fatal(err)
			}
			size = len(list)
		}
		size += len(byName)
		if got, err := tok.VocabSize(false); err != nil || got != size {
			t.Errorf("%s: %d tokens, %v; want %d", family, got, err, size)
		}
		if got, err := tok.VocabSize(true); err != nil || got != size {
			t.Errorf("%s: %d tokens with the added ones, %v; want %d", family, got, err, size)
		}
		for _, added := range file.AddedTokens {
			byName[added.Content] = added.ID
		}
		for token, id := range byName {
			if got, found, err := tok.TokenToID(token); err != nil || !found || got != id {
				t.Fatalf("%s: TokenToID(%q) = %d, %t, %v; want %d", family, token, got, found, err, id)
			}
			if got, found, err := tok.IDToToken(id); err != nil || !found || got != token {
				t.Fatalf("%s: IDToToken(%d) = %q, %t, %v; want %q", family, id, got, found, err, token)
			}
		}
		for _, token := range []string{"no such token", "", "\xff"} {
			if id, found, err := tok.TokenToID(token); err != nil || found {
				t.Errorf("%s: TokenToID(%q) = %d, %t, %v", family, token, id, found, err)
			}
		}
		if token, found, err := tok.IDToToken(1 << 31); err != nil || found {
			t.Errorf("%s: IDToToken(1<<31) = %q, %t, %v", family, token, found, err)
		}
		if text, err := tok.Decode([]uint32{1 << 31}, false); err != nil || text != "" {
			t.Errorf("%s: an unknown id decodes to %q, %v", family, text, err)
		}
	}
}
