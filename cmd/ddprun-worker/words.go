package main

import (
	"slices"
	"strings"

	"github.com/ddprun/ddprun/internal/tokenizer"
)

// probe is a text whose words any tokenizer knows at least in part.
const probe = "it was the 3rd proof, and others' letters (of 1704) showed once more that a beam of light bends there."

// wordsMove tells whether the tokenizer encodes a word the same wherever it stands, as T5's does, so that words can be moved as tokens. A byte-level BPE keeps
// the space before a word, which the first one of a text has not. The words of a text are turned round, as text and as tokens.
func (t *text) wordsMove() (bool, error) {
	b, err := t.tok.EncodeBatch([]string{probe}, tokenizer.Options{NoSpecialTokens: true, WordStarts: true})
	if err != nil {
		return false, err
	}
	var words [][]uint32
	for i, id := range b.IDs {
		if b.WordStarts[i] || i == 0 {
			words = append(words, nil)
		}
		words[len(words)-1] = append(words[len(words)-1], id)
	}
	words = slices.DeleteFunc(words[1:], func(word []uint32) bool { // a word such as the unknown token has no text
		return slices.ContainsFunc(word, func(id uint32) bool { return slices.Contains(t.vocab.Special, id) })
	})
	slices.Reverse(words)
	again, err := t.encodeWords(words)
	return slices.Equal(again, slices.Concat(words...)), err
}

// encodeWords returns the tokens of words that stand beside each other.
func (t *text) encodeWords(words [][]uint32) ([]uint32, error) {
	texts := make([]string, 0, len(words))
	for _, word := range words {
		text, err := t.tok.Decode(word, false)
		if err != nil {
			return nil, err
		}
		if text = strings.TrimSpace(text); text != "" { // else a space too many
			texts = append(texts, text)
		}
	}
	b, err := t.tok.EncodeBatch([]string{strings.Join(texts, " ")}, tokenizer.Options{NoSpecialTokens: true})
	if err != nil {
		return nil, err
	}
	return b.IDs, nil
}
