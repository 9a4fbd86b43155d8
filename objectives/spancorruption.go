package objectives

import (
	"fmt"
	"math"
)

// SpanConfig holds the parameters of span corruption. There are no defaults here.
type SpanConfig struct {
	Density      float64 // noise_density: share of the tokens that are taken out
	MeanLength   float64 // mean_noise_span_length: of the spans that they make
	DecoderStart int64   // the id that a sample's decoder input begins with
}

// SpanCorruption is T5's own objective (Raffel et al., 2020, 3.1.4 and 3.3.4): spans of tokens are taken out, a sentinel stands for each in what
// the model reads, and it writes each sentinel with its span after it, and a last sentinel. Both texts end with the EOS token.
//
// How many tokens and spans a sample loses follows from its length, as in the paper's program; where the spans lie is drawn: the lengths of the
// spans, and those of the text before each, are two partitions, each equally likely among all of their kind. A sample begins with text
// and ends with a span. A tokenizer with too few sentinels gets fewer and longer spans; nothing is dropped.
type SpanCorruption struct {
	config SpanConfig
	vocab  Vocab
	tokens ordinary
}

// NewSpanCorruption checks the parameters and the vocabulary, which must have the EOS token and two sentinels.
func NewSpanCorruption(config SpanConfig, vocab Vocab) (*SpanCorruption, error) {
	if !(config.Density > 0 && config.Density < 1) { // NaN too
		return nil, fmt.Errorf("noise_density: %v must be above 0 and below 1", config.Density)
	}
	if !(config.MeanLength >= 1) || math.IsInf(config.MeanLength, 0) {
		return nil, fmt.Errorf("mean_noise_span_length: %v must be at least 1", config.MeanLength)
	}
	if err := vocab.needEOS("span_corruption"); err != nil {
		return nil, err
	}
	if len(vocab.Sentinels) < 2 {
		return nil, fmt.Errorf("the tokenizer has %d sentinel tokens <extra_id_0>, <extra_id_1>, ..., and objective span_corruption needs two at least: "+
			"choose a T5's tokenizer, or objective reconstruction", len(vocab.Sentinels))
	}
	tokens, err := vocab.split()
	return &SpanCorruption{config, vocab, tokens}, err
}

// Terms is the one term span_corruption, a loss a target token.
func (c *SpanCorruption) Terms() []string { return []string{"span_corruption"} }

// Pairs is false.
func (c *SpanCorruption) Pairs() bool { return false }

// TextTokens returns the longest text of which what the model reads, and what it writes, has at most maxTokens.
func (c *SpanCorruption) TextTokens(maxTokens int) int {
	fits := func(n int) bool {
		noise, spans := c.noise(n)
		return n-noise+spans+1 <= maxTokens && noise+spans+2 <= maxTokens
	}
	n := 1
	for fits(n + 1) {
		n++
	}
	return n
}

// SampleTokens counts each token on one side, sentinels on both, and EOS.
func (c *SpanCorruption) SampleTokens(text int) int {
	_, spans := c.noise(max(text, 2))
	return text + 2*spans + 3
}

// Keep tells whether there are two tokens, one to take out and one to leave, and one that is not special.
func (c *SpanCorruption) Keep(tokens []uint32) bool { return len(tokens) > 1 && c.tokens.any(tokens) }

// KeepDigest names the rule of Keep.
func (c *SpanCorruption) KeepDigest() string { return "two-tokens-1" }

// Draw returns false.
func (c *SpanCorruption) Draw(Key) (negative bool, choice uint64) { return false, 0 }

// noise returns how many of n tokens, two at least, are taken out, and in how many spans.
func (c *SpanCorruption) noise(n int) (tokens, spans int) {
	tokens = min(max(int(math.RoundToEven(float64(n)*c.config.Density)), 1), n-1)
	spans = max(int(math.RoundToEven(float64(tokens)/c.config.MeanLength)), 1)
	return tokens, min(spans, n-tokens, len(c.vocab.Sentinels)-1)
}

// Append appends the sample. On an error (less than two tokens, a token that the vocabulary does not have) the batch is as it was.
func (c *SpanCorruption) Append(b *Batch, s Sample, key Key) error {
	if err := c.vocab.check(s.Tokens); err != nil {
		return fmt.Errorf("sample %d: %w", s.ID, err)
	}
	if len(s.Tokens) < 2 {
		return fmt.Errorf("sample %d: %d tokens are too few to take a span out", s.ID, len(s.Tokens))
	}
	noise, spans := c.noise(len(s.Tokens))
	b.draws.start(purposeSpans, key)
	b.spanLengths = b.draws.partition(b.spanLengths[:0], noise, spans)
	b.spanLengths = b.draws.partition(b.spanLengths, len(s.Tokens)-noise, spans)
	at, position := 0, 0
	put := func(id uint32) {
		b.appendToken(id, position, 0)
		position++
	}
	for i := range spans {
		for _, id := range s.Tokens[at : at+b.spanLengths[spans+i]] {
			put(id)
		}
		at += b.spanLengths[spans+i]
		put(c.vocab.Sentinels[i])
		b.Targets = append(b.Targets, int64(c.vocab.Sentinels[i]))
		for _, id := range s.Tokens[at : at+b.spanLengths[i]] {
			b.Targets = append(b.Targets, int64(id))
		}
		at += b.spanLengths[i]
	}
	put(c.vocab.EOS)
	b.Targets = append(b.Targets, int64(c.vocab.Sentinels[spans]), int64(c.vocab.EOS))
	b.closeDecoder(c.config.DecoderStart)
	b.closeSample(s.ID)
	return nil
}

// partition appends the lengths of parts that n items are divided into, none empty; all divisions are equally likely. It draws which
// parts-1 of the n-1 gaps between items divide them (Knuth, TAOCP 2, 3.4.2, algorithm S).
func (g *generator) partition(lengths []int, n, parts int) []int {
	left, length := parts-1, 1
	for gaps := n - 1; gaps > 0; gaps-- {
		if g.below(gaps) < left {
			lengths = append(lengths, length)
			length = 0
			left--
		}
		length++
	}
	return append(lengths, length)
}
