package main

import (
	"slices"
	"testing"

	"github.com/ddprun/ddprun/internal/tokenizer"
)

// Which tokenizers encode a word the same anywhere, and that others' words are encoded again where they have come to stand.
func TestWordsMove(t *testing.T) {
	for family, want := range map[string]bool{"t5": true, "bert": true, "gpt2": false, "roberta": false, "llama3": false} {
		tok, err := tokenizer.New(unzip(t, family+".json.gz"))
		if err != nil {
			t.Fatal(err)
		}
		defer tok.Close()
		x := &text{encoder: encoder{tok: tok}}
		if got, err := x.wordsMove(); err != nil || got != want {
			t.Errorf("%s: words move as tokens: %v, %v", family, got, err)
		}
		encode := func(text string) []uint32 {
			b, err := tok.EncodeBatch([]string{text}, tokenizer.Options{NoSpecialTokens: true})
			if err != nil {
				t.Fatal(err)
			}
			return b.IDs
		}
		the, lights := encode("the"), encode("light's colour")
		got, err := x.encodeWords([][]uint32{lights, the})
		if wanted := encode("light's colour the"); err != nil || !slices.Equal(got, wanted) {
			t.Errorf("%s: encoded again they are %v, want %v; %v", family, got, wanted, err)
		}
	}
}
