package objectives

import (
	"errors"
	"fmt"
)

// ErrNoMaskable is wrapped by Append's error for a sample that has no token to hide.
var ErrNoMaskable = errors.New("no maskable token: the text is empty or all special tokens")

// MLMConfig holds the parameters of masked language modelling by the names of transformers' DataCollatorForLanguageModeling.
// There are no defaults here: 0 means 0.
type MLMConfig struct {
	Probability       float64 // mlm_probability: of a token (a word, with WholeWordMask) to be selected
	MaskReplaceProb   float64 // mask_replace_prob: of a selected one to become the mask token
	RandomReplaceProb float64 // random_replace_prob: of a selected one to become random tokens; the rest stay as they are
	WholeWordMask     bool    // whole_word_mask: select words instead of tokens
	PositionOffset    int     // position id of a sample's first token: 0 for BERT
}

func (c MLMConfig) validate() error {
	for _, p := range []struct {
		name  string
		value float64
	}{
		{"mlm_probability", c.Probability},
		{"mask_replace_prob", c.MaskReplaceProb},
		{"random_replace_prob", c.RandomReplaceProb},
	} {
		if !(p.value >= 0 && p.value <= 1) { // NaN too
			return fmt.Errorf("%s: %v is not a probability, it must lie between 0 and 1", p.name, p.value)
		}
	}
	if c.MaskReplaceProb+c.RandomReplaceProb > 1 {
		return fmt.Errorf("mask_replace_prob %v and random_replace_prob %v: their sum must not exceed 1",
			c.MaskReplaceProb, c.RandomReplaceProb)
	}
	if c.PositionOffset < 0 {
		return fmt.Errorf("position offset %d is negative", c.PositionOffset)
	}
	return nil
}

// MLM is masked language modelling (BERT 3.1, task 1): [CLS] tokens [SEP] with some tokens hidden, and their ids as labels.
//
// Each unit, a token or with WholeWordMask a word, is selected by itself with Probability; where none was, one is chosen
// uniformly, so that every sample teaches something. Special tokens are never selected, those that occur inside the text
// (such as [UNK]) neither, and they end a word, as in transformers. A selected unit is masked, replaced or left by the three
// shares; random tokens are drawn one by one, uniformly over the vocabulary without special tokens, and may equal the original.
//
// Two documented differences from transformers 5: its random tokens may be special ones, and with whole_word_mask it masks
// every selected word. Here whole words keep the three shares, decided once a word: were it once a token, as in BERT's
// first release, part of a hidden word would often stay readable, which whole-word masking is there to prevent. A single
// token's chances are the same either way.
type MLM struct {
	config MLMConfig
	vocab  Vocab
	tokens ordinary
}

// NewMLM checks the parameters and the vocabulary, which must have the CLS, SEP and mask tokens.
func NewMLM(config MLMConfig, vocab Vocab) (*MLM, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	for _, t := range []struct {
		name string
		id   uint32
	}{{"mask", vocab.Mask}, {"CLS (begin)", vocab.CLS}, {"SEP (end)", vocab.SEP}} {
		if t.id == NoToken {
			return nil, fmt.Errorf("the tokenizer has no %s token, which objective mlm needs: "+
				"name it in special_tokens_map.json or choose a model that was pre-trained with mlm", t.name)
		}
	}
	tokens, err := vocab.split()
	if err != nil {
		return nil, err
	}
	return &MLM{config: config, vocab: vocab, tokens: tokens}, nil
}

// TextTokens leaves room for [CLS] and [SEP].
func (m *MLM) TextTokens(maxTokens int) int { return maxTokens - 2 }

// SampleTokens counts [CLS] and [SEP].
func (m *MLM) SampleTokens(text int) int { return text + 2 }

// Terms is the one term mlm, a loss a labelled token.
func (m *MLM) Terms() []string { return []string{"mlm"} }

// Pairs is false.
func (m *MLM) Pairs() bool { return false }

// Draw returns false.
func (m *MLM) Draw(Key) (negative bool, choice uint64) { return false, 0 }

// KeepDigest names the rule of Keep.
func (m *MLM) KeepDigest() string { return "mlm-maskable-1" }

// Keep tells whether the tokens have one that may be hidden. A sample without one cannot be appended.
func (m *MLM) Keep(tokens []uint32) bool { return m.tokens.any(tokens) }

// Append appends the sample to the batch with what the key's draws hide of it. On an error (ErrNoMaskable, a token that
// the vocabulary does not have, word starts of another length) the batch is as it was.
func (m *MLM) Append(b *Batch, s Sample, key Key) error {
	if err := m.check(s); err != nil {
		return fmt.Errorf("sample %d: %w", s.ID, err)
	}
	position := m.config.PositionOffset
	b.appendToken(m.vocab.CLS, position, 0)
	text := run{s.Tokens, s.WordStart, len(b.IDs)}
	for _, id := range s.Tokens {
		position++
		b.appendToken(id, position, 0)
	}
	b.appendToken(m.vocab.SEP, position+1, 0)
	b.closeSample(s.ID)
	m.mask(b, key, text)
	return nil
}

// run is text of a sample in a batch, from token at on.
type run struct {
	tokens    []uint32
	wordStart []bool
	at        int
}

// mask selects units of the runs, which are text of one sample, labels and hides them. Runs without a maskable token stay as they are.
func (m *MLM) mask(b *Batch, key Key, runs ...run) {
	b.draws.start(purposeMLM, key)
	units, labels := 0, len(b.Labels)
	for _, r := range runs {
		for first, end := m.unit(r, 0); first < end; first, end = m.unit(r, end) {
			units++
			if b.draws.uniform() < m.config.Probability {
				m.hide(b, r.at+first, r.at+end)
			}
		}
	}
	if len(b.Labels) > labels || units == 0 {
		return
	}
	chosen := b.draws.below(units)
	for _, r := range runs {
		for first, end := m.unit(r, 0); first < end; first, end = m.unit(r, end) {
			if chosen == 0 {
				m.hide(b, r.at+first, r.at+end)
			}
			chosen--
		}
	}
}

// check finds what keeps a sample from being appended.
func (m *MLM) check(s Sample) error {
	if err := m.vocab.check(s.Tokens); err != nil {
		return err
	}
	if !m.Keep(s.Tokens) {
		return ErrNoMaskable
	}
	if m.config.WholeWordMask && len(s.WordStart) != len(s.Tokens) {
		return fmt.Errorf("whole_word_mask: %d word starts for %d tokens", len(s.WordStart), len(s.Tokens))
	}
	return nil
}

// unit returns the first unit that starts at index i or later: tokens first to end, or first == end where none is left.
func (m *MLM) unit(r run, i int) (first, end int) {
	for i < len(r.tokens) && m.tokens.special[r.tokens[i]] {
		i++
	}
	if i == len(r.tokens) {
		return i, i
	}
	first, end = i, i+1
	if m.config.WholeWordMask {
		for end < len(r.tokens) && !r.wordStart[end] && !m.tokens.special[r.tokens[end]] {
			end++
		}
	}
	return first, end
}

// hide labels tokens first to end of the batch, a selected unit, and masks, replaces or leaves them.
func (m *MLM) hide(b *Batch, first, end int) {
	share := b.draws.uniform()
	for i := first; i < end; i++ {
		b.Labelled = append(b.Labelled, int64(i))
		b.Labels = append(b.Labels, b.IDs[i])
		switch {
		case share < m.config.MaskReplaceProb:
			b.IDs[i] = int64(m.vocab.Mask)
		case share < m.config.MaskReplaceProb+m.config.RandomReplaceProb:
			b.IDs[i] = int64(m.tokens.at(uint32(b.draws.below(m.tokens.count()))))
		}
	}
}
