package objectives

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// WordOrder says what becomes of the order of a sample's words.
type WordOrder string

// The orders.
const (
	Shuffled WordOrder = "shuffle" // every order is equally likely
	Windowed WordOrder = "window"  // a word moves by at most windowReach places (Lample et al., "Unsupervised Machine Translation", 2018, 2.3)
	Kept     WordOrder = "keep"
)

// windowReach is k of Lample et al., 2018.
const windowReach = 3

// Perturbation says what becomes of a selected word.
type Perturbation string

// The perturbations.
const (
	Deleted Perturbation = "delete"
	Masked  Perturbation = "mask" // the tokenizer's mask token, or else its first sentinel, stands for the word
)

// ReconstructionConfig holds the parameters of sentence reconstruction. There are no defaults here: 0 means 0.
type ReconstructionConfig struct {
	Probability  float64 // perturbation_probability: of a word to be deleted or masked
	Perturbation Perturbation
	WordOrder    WordOrder
	DecoderStart int64 // the id that a sample's decoder input begins with
	MaxTokens    int   // longest that the model reads, EOS included, where Encode makes it longer than the text; 0: no limit
	// Encode returns the tokens of words in another order, where a word's tokens depend on its place. It must be safe for concurrent use. Nil: they
	// don't, and tokens are moved as they are.
	Encode func(words [][]uint32) ([]uint32, error)
}

// Reconstruction is denoising for a sequence-to-sequence model: it reads a sample with words deleted or masked and moved, and writes the
// sample as it was. Both end with the EOS token.
//
// Each word is selected by itself with Probability; where that takes all, one of them, any with the same chance, is spared. With probability 0
// and order keep the model reads what it shall write.
type Reconstruction struct {
	config ReconstructionConfig
	vocab  Vocab
	tokens ordinary
	mask   uint32
}

// NewReconstruction checks the parameters and the vocabulary, which must have the EOS token, and to mask words the mask token or sentinels.
func NewReconstruction(config ReconstructionConfig, vocab Vocab) (*Reconstruction, error) {
	if !(config.Probability >= 0 && config.Probability < 1) { // NaN too
		return nil, fmt.Errorf("perturbation_probability: %v must be at least 0 and below 1, which would leave nothing of a sentence", config.Probability)
	}
	if config.Perturbation != Deleted && config.Perturbation != Masked {
		return nil, fmt.Errorf("perturbation: want %s or %s, got %q", Deleted, Masked, config.Perturbation)
	}
	if config.WordOrder != Shuffled && config.WordOrder != Windowed && config.WordOrder != Kept {
		return nil, fmt.Errorf("word_order: want %s, %s or %s, got %q", Shuffled, Windowed, Kept, config.WordOrder)
	}
	if err := vocab.needEOS("reconstruction"); err != nil {
		return nil, err
	}
	r := &Reconstruction{config: config, vocab: vocab, mask: vocab.Mask}
	if r.mask == NoToken && len(vocab.Sentinels) > 0 {
		r.mask = vocab.Sentinels[0]
	}
	if config.Perturbation == Masked && r.mask == NoToken {
		return nil, errors.New("perturbation: the tokenizer has no mask token and no sentinel <extra_id_0>, so words cannot be masked; " +
			"choose perturbation: delete or a T5's tokenizer")
	}
	var err error
	r.tokens, err = vocab.split()
	return r, err
}

// Terms is the one term reconstruction, a loss a target token.
func (r *Reconstruction) Terms() []string { return []string{"reconstruction"} }

// Pairs is false.
func (r *Reconstruction) Pairs() bool { return false }

// TextTokens leaves room for EOS.
func (r *Reconstruction) TextTokens(maxTokens int) int { return maxTokens - 1 }

// SampleTokens counts the text and EOS on both sides.
func (r *Reconstruction) SampleTokens(text int) int { return 2 * (text + 1) }

// Keep tells whether the tokens have one that is not special.
func (r *Reconstruction) Keep(tokens []uint32) bool { return r.tokens.any(tokens) }

// KeepDigest names the rule of Keep, which is that of [MLM].
func (r *Reconstruction) KeepDigest() string { return "mlm-maskable-1" }

// Draw returns false.
func (r *Reconstruction) Draw(Key) (negative bool, choice uint64) { return false, 0 }

// Append appends the sample, whose WordStart it needs. On an error (an empty sample, a token that the vocabulary does not have, word starts of
// another length) the batch is as it was.
func (r *Reconstruction) Append(b *Batch, s Sample, key Key) error {
	switch err := r.vocab.check(s.Tokens); {
	case err != nil:
		return fmt.Errorf("sample %d: %w", s.ID, err)
	case len(s.Tokens) == 0:
		return fmt.Errorf("sample %d is empty", s.ID)
	case len(s.WordStart) != len(s.Tokens):
		return fmt.Errorf("sample %d: %d word starts for %d tokens", s.ID, len(s.WordStart), len(s.Tokens))
	}
	b.words = appendWords(b.words[:0], s.WordStart)
	b.draws.start(purposeReconstruction, key)
	r.perturb(b)
	r.order(b)
	b.moved = b.moved[:0]
	for _, w := range b.words {
		if w.masked {
			b.moved = append(b.moved, r.mask)
		} else {
			b.moved = append(b.moved, s.Tokens[w.first:w.end]...)
		}
	}
	if r.config.Encode != nil {
		if err := r.encodeAgain(b, s); err != nil {
			return fmt.Errorf("sample %d: encode its words in another order: %w", s.ID, err)
		}
	}
	for position, id := range b.moved {
		b.appendToken(id, position, 0)
	}
	b.appendToken(r.vocab.EOS, len(b.moved), 0)
	for _, id := range s.Tokens {
		b.Targets = append(b.Targets, int64(id))
	}
	b.Targets = append(b.Targets, int64(r.vocab.EOS))
	b.closeDecoder(r.config.DecoderStart)
	b.closeSample(s.ID)
	return nil
}

// encodeAgain makes b.moved the tokens of b.words where they stand now.
func (r *Reconstruction) encodeAgain(b *Batch, s Sample) error {
	words := make([][]uint32, len(b.words))
	for i, w := range b.words {
		if words[i] = s.Tokens[w.first:w.end]; w.masked {
			words[i] = []uint32{r.mask}
		}
	}
	ids, err := r.config.Encode(words)
	if err != nil {
		return err
	}
	if most := r.config.MaxTokens - 1; most > 0 && len(ids) > most {
		ids = ids[:most]
	}
	b.moved = append(b.moved[:0], ids...)
	return r.vocab.check(b.moved)
}

// word is tokens first to end of a sample.
type word struct {
	first, end int
	masked     bool
	place      float64 // words are put in its order
}

// appendWords appends the words that begin where starts says so; the first token begins one in any case.
func appendWords(words []word, starts []bool) []word {
	for i, start := range starts {
		if start || i == 0 {
			words = append(words, word{first: i})
		}
		words[len(words)-1].end = i + 1
	}
	return words
}

// perturb selects words of b.words, and masks them or takes them out.
func (r *Reconstruction) perturb(b *Batch) {
	spared := 0
	for i := range b.words {
		b.words[i].masked = b.draws.uniform() < r.config.Probability
		if !b.words[i].masked {
			spared++
		}
	}
	if spared == 0 {
		b.words[b.draws.below(len(b.words))].masked = false
	}
	if r.config.Perturbation == Deleted {
		b.words = slices.DeleteFunc(b.words, func(w word) bool { return w.masked })
	}
}

// order moves the words.
func (r *Reconstruction) order(b *Batch) {
	switch r.config.WordOrder {
	case Shuffled: // Fisher and Yates
		for i := len(b.words) - 1; i > 0; i-- {
			j := b.draws.below(i + 1)
			b.words[i], b.words[j] = b.words[j], b.words[i]
		}
	case Windowed:
		for i := range b.words {
			b.words[i].place = float64(i) + b.draws.uniform()*(windowReach+1)
		}
		slices.SortStableFunc(b.words, func(x, y word) int { return cmp.Compare(x.place, y.place) })
	}
}
