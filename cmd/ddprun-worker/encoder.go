package main

import (
	"strings"

	"github.com/ddprun/ddprun/internal/tokenizer"
	"github.com/ddprun/ddprun/shard"
)

// longText is how much of a text is encoded at once where a tokenizer allows that: it takes about 150 times as much memory meanwhile.
const longText = 128 << 10

// encoder is the tokenizer as shard wants it.
type encoder struct {
	tok    *tokenizer.Tokenizer
	digest string
	size   int
	piece  int // bytes that are encoded at once; 0: a text as a whole
}

func (e *encoder) Digest() string { return e.digest }
func (e *encoder) VocabSize() int { return e.size }

func (e *encoder) Encode(texts []string) ([]shard.Encoding, error) {
	pieces, ends := e.cut(texts)
	b, err := e.tok.EncodeBatch(pieces, tokenizer.Options{NoSpecialTokens: true, WordStarts: true})
	if err != nil {
		return nil, err
	}
	out := make([]shard.Encoding, len(texts))
	start := 0
	for i, end := range ends {
		lo, hi := b.Starts[start], b.Starts[end]
		out[i] = shard.Encoding{IDs: b.IDs[lo:hi:hi], WordStart: b.WordStarts[lo:hi:hi]}
		start = end
	}
	return out, nil
}

// cut cuts long texts at spaces and line feeds; ends is behind the last piece of each text. A run without any stays whole.
func (e *encoder) cut(texts []string) (pieces []string, ends []int) {
	pieces, ends = make([]string, 0, len(texts)), make([]int, 0, len(texts))
	for _, text := range texts {
		for e.piece > 0 && len(text) > e.piece {
			at := strings.LastIndexAny(text[:e.piece], " \n")
			if at < 0 {
				if at = strings.IndexAny(text[e.piece:], " \n"); at < 0 {
					break
				}
				at += e.piece
			}
			pieces, text = append(pieces, text[:at]), text[at+1:]
		}
		pieces = append(pieces, text)
		ends = append(ends, len(pieces))
	}
	return pieces, ends
}
