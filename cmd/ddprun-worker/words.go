package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ddprun/ddprun/internal/tokenizer"
	"github.com/ddprun/ddprun/shard"
)

// checkWords finds that a tokenizer does not encode a word the same wherever it stands, so that words cannot be moved as tokens: a byte-level BPE
// keeps the space before a word, which the first one of a text has not. It turns some samples round, as text and as tokens, and forgives one in
// twenty.
func (t *text) checkWords(samples *shard.Samples) error {
	const most = 64
	looked := min(most, samples.Len())
	other, example := int64(0), ""
	var s shard.Sample
	for i := range looked {
		if err := samples.At(i*samples.Len()/looked, &s); err != nil {
			return err
		}
		words, tokens, err := t.turnedRound(s)
		if err != nil {
			return err
		}
		text := strings.Join(words, " ")
		got, err := t.tok.EncodeBatch([]string{text}, tokenizer.Options{NoSpecialTokens: true})
		if err != nil {
			return err
		}
		if !slices.Equal(got.IDs, tokens) {
			other++
			example = text
		}
	}
	if 20*other > looked {
		return fmt.Errorf("objective reconstruction moves words as tokens, but with this tokenizer the words of %d of %d samples are other tokens in another "+
			"order, such as %q; a T5 or mT5 has a tokenizer that encodes each word by itself", other, looked, example)
	}
	return nil
}

// turnedRound returns the words of a sample from the last to the first, as text and as tokens, without those that hold a token such as the unknown
// one, which has no text, and without the first and the last, inside which a long sentence may have been cut.
func (t *text) turnedRound(s shard.Sample) (words []string, tokens []uint32, err error) {
	end := len(s.Tokens)
	for first := end - 1; first >= 0; first-- {
		if first > 0 && !s.WordStart[first] {
			continue
		}
		word, err := t.tok.Decode(s.Tokens[first:end], false)
		if err != nil {
			return nil, nil, err
		}
		cut := end == len(s.Tokens) || first == 0
		special := slices.ContainsFunc(s.Tokens[first:end], func(id uint32) bool { return slices.Contains(t.vocab.Special, id) })
		if word = strings.TrimSpace(word); word != "" && !special && !cut { // without letters it is a space too many
			words, tokens = append(words, word), append(tokens, s.Tokens[first:end]...)
		}
		end = first
	}
	return words, tokens, nil
}
