package tokenizer

import "testing"

func TestCutsAtSpaces(t *testing.T) {
	for text, want := range map[string]bool{
		`{"pre_tokenizer": {"type": "BertPreTokenizer"}, "normalizer": {"type": "BertNormalizer"}, "model": {"type": "WordPiece"}, "added_tokens": [{"content": "[CLS]"}]}`: true,
		`{"pre_tokenizer": {"type": "BertPreTokenizer"}, "model": {}}`:                                 true,
		`{"pre_tokenizer": {"type": "BertPreTokenizer"}, "model": {"type": "BPE"}}`:                    false,
		`{"pre_tokenizer": {"type": "BertPreTokenizer"}, "normalizer": {"type": "Sequence"}}`:          false,
		`{"pre_tokenizer": {"type": "BertPreTokenizer"}, "added_tokens": [{"content": "New York"}]}`:   false,
		`{"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": true}, "model": {"type": "BPE"}}`: false,
		`{"pre_tokenizer": {"type": "Metaspace"}, "model": {"type": "Unigram"}}`:                       false,
		`{"model": {"type": "WordPiece"}}`:                                                             false,
		`{`:                                                                                            false,
	} {
		if got := CutsAtSpaces([]byte(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
