package objectives

import (
	"errors"
	"fmt"
)

// PairTask is what a model says of two sentences.
type PairTask string

// The tasks. A class is 0 for sentences as they stand in the text, and 1 otherwise.
const (
	// NSP is next-sentence prediction (BERT 3.1, task 2): in class 1 the second sentence is a random one.
	NSP PairTask = "nsp"
	// SOP is sentence-order prediction (ALBERT 3.1): in class 1 the two have changed places.
	SOP PairTask = "sop"
)

// PairConfig holds the parameters of an objective on pairs of sentences.
type PairConfig struct {
	Task           PairTask
	MaxTokens      int        // longest sample, special tokens included
	PositionOffset int        // position id of a sample's first token: 0 for BERT
	MLM            *MLMConfig // set: masked language modelling on the same pairs; its PositionOffset does not count
}

// Pair makes samples of two sentences, [CLS] first [SEP] second [SEP] with token types 0 and 1, of class 0 or 1 with half a chance each. With
// MLM it is BERT's own pre-training: tokens of both sentences are hidden as well, and the loss has a term for each.
//
// A pair that is too long loses tokens from the end of its longer sentence, as the tokenizers library truncates longest_first; BERT's first
// release also cut at the front, by chance.
type Pair struct {
	config PairConfig
	vocab  Vocab
	tokens ordinary
	mlm    *MLM // nil: none
}

// pairSpecialTokens is the number of tokens that are put around a pair's own.
const pairSpecialTokens = 3

// NewPair checks the parameters and the vocabulary, which must have the CLS and SEP tokens, and with MLM the mask token.
func NewPair(config PairConfig, vocab Vocab) (*Pair, error) {
	if config.Task != NSP && config.Task != SOP {
		return nil, fmt.Errorf("a task on pairs is %s or %s, not %q", NSP, SOP, config.Task)
	}
	if vocab.CLS == NoToken || vocab.SEP == NoToken {
		return nil, fmt.Errorf("the tokenizer has no CLS (begin) or no SEP (end) token, which objective %s needs: "+
			"name them in special_tokens_map.json or choose a BERT", config.Task)
	}
	p := &Pair{config: config, vocab: vocab}
	if least := pairSpecialTokens + 2; config.MaxTokens < least {
		return nil, fmt.Errorf("max_seq_length: %d tokens are too few for a pair of sentences, it takes %d", config.MaxTokens, least)
	}
	if config.PositionOffset < 0 {
		return nil, fmt.Errorf("position offset %d is negative", config.PositionOffset)
	}
	var err error
	if p.tokens, err = vocab.split(); err != nil {
		return nil, err
	}
	if config.MLM != nil {
		if p.mlm, err = NewMLM(*config.MLM, vocab); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Terms is the task, a loss a pair, after mlm, a loss a labelled token, if there is one.
func (p *Pair) Terms() []string {
	if p.mlm != nil {
		return []string{"mlm", string(p.config.Task)}
	}
	return []string{string(p.config.Task)}
}

// Pairs is true.
func (p *Pair) Pairs() bool { return true }

// TextTokens leaves room for [CLS] and two [SEP].
func (p *Pair) TextTokens(maxTokens int) int { return maxTokens - pairSpecialTokens }

// SampleTokens counts [CLS] and two [SEP]; longer pairs are truncated.
func (p *Pair) SampleTokens(text int) int { return min(text+pairSpecialTokens, p.config.MaxTokens) }

// Keep tells whether a sentence has a token that is not special.
func (p *Pair) Keep(tokens []uint32) bool { return p.tokens.any(tokens) }

// KeepDigest names the rule of Keep, which is that of [MLM].
func (p *Pair) KeepDigest() string { return "mlm-maskable-1" }

// draw returns the class of a sample and the bits that choose a random sentence.
func (p *Pair) draw(g *generator, key Key) (class int64, choice uint64) {
	g.start(purposePair, key)
	if g.uniform() < 0.5 {
		class = 1
	}
	return class, g.chacha.Uint64()
}

// Draw tells whether the second sentence shall be a random one, and the bits that choose it.
func (p *Pair) Draw(key Key) (negative bool, choice uint64) {
	if p.config.Task != NSP {
		return false, 0
	}
	class, choice := p.draw(new(generator), key)
	return class == 1, choice
}

// Append appends the pair of s.Tokens and s.Next. On an error (an empty sentence, a token that the vocabulary does not have, word starts of
// another length) the batch is as it was.
func (p *Pair) Append(b *Batch, s Sample, key Key) error {
	if err := p.check(s); err != nil {
		return fmt.Errorf("sample %d: %w", s.ID, err)
	}
	class, _ := p.draw(&b.draws, key)
	first, second := run{tokens: s.Tokens, wordStart: s.WordStart}, run{tokens: s.Next, wordStart: s.NextWordStart}
	if p.config.Task == SOP && class == 1 {
		first, second = second, first
	}
	n, m := longestFirst(len(first.tokens), len(second.tokens), p.config.MaxTokens-pairSpecialTokens)
	first.cut(n)
	second.cut(m)
	position := p.config.PositionOffset
	b.appendToken(p.vocab.CLS, position, 0)
	for typeID, r := range []*run{&first, &second} {
		r.at = len(b.IDs)
		for _, id := range r.tokens {
			position++
			b.appendToken(id, position, typeID)
		}
		position++
		b.appendToken(p.vocab.SEP, position, typeID)
	}
	b.PairSamples, b.PairLabels = append(b.PairSamples, int64(b.Samples())), append(b.PairLabels, class)
	b.closeSample(s.ID)
	if p.mlm != nil {
		p.mlm.mask(b, key, first, second)
	}
	return nil
}

// check finds what keeps a pair from being appended.
func (p *Pair) check(s Sample) error {
	if err := errors.Join(p.vocab.check(s.Tokens), p.vocab.check(s.Next)); err != nil {
		return err
	}
	if len(s.Tokens) == 0 || len(s.Next) == 0 {
		return fmt.Errorf("a pair of %d and %d tokens: a sentence is empty", len(s.Tokens), len(s.Next))
	}
	if p.mlm != nil && p.mlm.config.WholeWordMask && (len(s.WordStart) != len(s.Tokens) || len(s.NextWordStart) != len(s.Next)) {
		return fmt.Errorf("whole_word_mask: %d and %d word starts for %d and %d tokens",
			len(s.WordStart), len(s.NextWordStart), len(s.Tokens), len(s.Next))
	}
	return nil
}

// cut keeps the first n tokens.
func (r *run) cut(n int) {
	r.tokens = r.tokens[:n]
	if len(r.wordStart) > n {
		r.wordStart = r.wordStart[:n]
	}
}

// longestFirst returns how many tokens of two sentences of n and m are kept so that both have at most the given number together: tokens
// go from the longer one until both are as long; then each keeps half, and of an odd number the longer, or the second, one more. It is
// truncate_encodings of the tokenizers library.
func longestFirst(n, m, most int) (int, int) {
	if n+m <= most {
		return n, m
	}
	swap := n > m
	if swap {
		n, m = m, n
	}
	if m = max(n, most-n); n+m > most {
		n = most / 2
		m = most - n
	}
	if swap {
		n, m = m, n
	}
	return n, m
}
