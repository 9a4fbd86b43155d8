package objectives

import (
	"fmt"
	"math"
	"slices"
)

// Sample is one unit of training text as token ids, without the special tokens that an objective puts around it. An
// objective only reads it.
type Sample struct {
	ID     uint64 // number of the sample in its corpus
	Tokens []uint32
	// WordStart tells for each token whether a word begins with it. Objectives that work on words need it; others
	// take nil. The first token begins a word whatever it says: a window of text may start inside one.
	WordStart []bool
	// Next and NextWordStart are the second sentence of a pair.
	Next          []uint32
	NextWordStart []bool
}

// NoToken stands in a Vocab for a special token that the tokenizer does not have.
const NoToken uint32 = math.MaxUint32

// Vocab is what an objective knows of the tokenizer.
type Vocab struct {
	Size                int      // number of tokens, added ones included; ids are below it
	CLS, SEP, Mask, Pad uint32   // NoToken where there is none
	EOS                 uint32   // of sequence-to-sequence models; NoToken where there is none
	Sentinels           []uint32 // <extra_id_0>, <extra_id_1>, ... as far as they go without a gap
	Special             []uint32 // ids of all special tokens, the unknown token included; order and repetition don't matter
}

// needEOS finds that there is no EOS token.
func (v Vocab) needEOS(objective string) error {
	if v.EOS == NoToken {
		return fmt.Errorf("the tokenizer has no EOS token, which objective %s needs: name it in special_tokens_map.json or choose a T5", objective)
	}
	return nil
}

// check finds a token that is none of the vocabulary's.
func (v Vocab) check(tokens []uint32) error {
	for i, id := range tokens {
		if int64(id) >= int64(v.Size) {
			return fmt.Errorf("token %d has id %d, but the vocabulary has %d tokens: "+
				"the text was encoded with another tokenizer", i, id, v.Size)
		}
	}
	return nil
}

// ordinary is a vocabulary split into special tokens and the rest.
type ordinary struct {
	special []bool   // by id
	ids     []uint32 // the special ids, ascending, each once
}

// split checks the vocabulary. The named special tokens count as special even where Special lacks them.
func (v Vocab) split() (ordinary, error) {
	if v.Size <= 0 || v.Size > math.MaxInt32 {
		return ordinary{}, fmt.Errorf("vocabulary: size %d is out of range", v.Size)
	}
	var o ordinary
	o.special = make([]bool, v.Size)
	ids := slices.Clone(v.Special)
	for _, id := range []uint32{v.CLS, v.SEP, v.Mask, v.Pad} {
		if id != NoToken {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	o.ids = slices.Compact(ids)
	for _, id := range o.ids {
		if int64(id) >= int64(v.Size) {
			return ordinary{}, fmt.Errorf("vocabulary: special token %d lies beyond its %d tokens", id, v.Size)
		}
		o.special[id] = true
	}
	if o.count() == 0 {
		return ordinary{}, fmt.Errorf("vocabulary: all %d tokens are special ones", v.Size)
	}
	return o, nil
}

// count returns the number of tokens that are not special.
func (o *ordinary) count() int { return len(o.special) - len(o.ids) }

// any tells whether one of the tokens is not special.
func (o *ordinary) any(tokens []uint32) bool {
	for _, id := range tokens {
		if int64(id) < int64(len(o.special)) && !o.special[id] {
			return true
		}
	}
	return false
}

// at returns the n-th token that is not special, counted from 0.
func (o *ordinary) at(n uint32) uint32 {
	for _, id := range o.ids {
		if id > n {
			break
		}
		n++
	}
	return n
}
