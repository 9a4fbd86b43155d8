package tokenizer

// #include "ddtok.h"
import "C"

import (
	"errors"
	"fmt"
)

// Strategy says which text of a pair truncation shortens.
type Strategy int

const (
	LongestFirst Strategy = iota // the longer one, until both are equally long
	OnlyFirst
	OnlySecond
)

// Direction says at which end truncation cuts.
type Direction int

const (
	Right Direction = iota
	Left
)

// Truncation limits the length of encodings.
type Truncation struct {
	MaxLength int // tokens, the special ones included
	Stride    int // tokens that an overflowing encoding repeats of the one before
	Strategy  Strategy
	Direction Direction
}

// Truncating returns the same tokenizer with a truncation. Both share one vocabulary; each is closed for itself.
func (t *Tokenizer) Truncating(to Truncation) (*Tokenizer, error) {
	if to.MaxLength < 1 {
		return nil, fmt.Errorf("tokenizer: truncate: the maximum length is %d; it must be at least 1", to.MaxLength)
	}
	if to.Stride < 0 {
		return nil, errors.New("tokenizer: truncate: the stride is negative")
	}
	var truncating *Tokenizer
	err := t.with(func(handle *C.ddtok_tokenizer) error {
		var message *C.char
		h := C.ddtok_truncating(handle, C.size_t(to.MaxLength), C.size_t(to.Stride), C.int(to.Strategy), C.int(to.Direction), &message)
		if h == nil {
			return fmt.Errorf("tokenizer: truncate: %w", takeError(message))
		}
		truncating = own(h)
		return nil
	})
	return truncating, err
}
