package tokenizer

// #include "ddtok.h"
import "C"

import (
	"errors"
	"fmt"
	"math"
	"unsafe"
)

// Options says what EncodeBatch does and which arrays it fills. The zero value gives ids, with special tokens.
type Options struct {
	Pairs           bool // texts 2i and 2i+1 are one input
	NoSpecialTokens bool
	ReplaceInvalid  bool // invalid UTF-8 becomes U+FFFD (see ReplaceInvalidUTF8); otherwise it is an error
	Overflow        bool // also return what truncation cut off, as encodings of its own
	TypeIDs         bool
	Offsets         bool
	WordIDs         bool
	SequenceIDs     bool
	WordStarts      bool
}

// Span is a part of a text, in characters (code points) from its start, as Python counts them.
type Span struct{ Start, End uint32 }

// Batch holds encodings as flat arrays with one element a token; those not asked for are nil.
type Batch struct {
	IDs         []uint32
	TypeIDs     []uint32
	Offsets     []Span  // of the text the token comes from; 0, 0 for special tokens
	WordIDs     []int32 // count from 0 in each text; -1 for special tokens
	SequenceIDs []int32 // 0 or 1: the text of the pair; -1 for special tokens
	WordStarts  []bool  // whether the token starts a word; special tokens do
	Starts      []int   // encoding k has tokens Starts[k] to Starts[k+1]
	Firsts      []int   // input i has encodings Firsts[i] to Firsts[i+1]: its own, then its overflow
}

// InputError says which input of a batch failed. An input is a text, or a pair of texts.
type InputError struct {
	Input int   // counted from 0
	Err   error // what is wrong with it, without prefix
}

func (e *InputError) Error() string {
	return fmt.Sprintf("tokenizer: encode input %d: %v", e.Input, e.Err)
}
func (e *InputError) Unwrap() error { return e.Err }

// EncodeBatch encodes texts one after another on the calling thread. The batch belongs to the caller and has no memory of
// the library's in it. The error is an *InputError when it lies in one of the texts.
func (t *Tokenizer) EncodeBatch(texts []string, options Options) (*Batch, error) {
	textsPerInput := 1
	if options.Pairs {
		textsPerInput = 2
	}
	if len(texts)%textsPerInput != 0 {
		return nil, errors.New("tokenizer: encode pairs: the number of texts is odd")
	}
	if len(texts) == 0 {
		return &Batch{Starts: []int{0}, Firsts: []int{0}}, nil
	}
	data, ends := join(texts, options.ReplaceInvalid)
	var batch *Batch
	err := t.with(func(handle *C.ddtok_tokenizer) error {
		var out C.ddtok_batch
		var message *C.char
		if C.ddtok_encode(handle, (*C.uint8_t)(data), unsafe.SliceData(ends), C.size_t(len(ends)), C.size_t(textsPerInput),
			options.flags(), &out, &message) != 0 {
			return encodeError(uint64(out.failed), message)
		}
		defer C.ddtok_batch_free(&out)
		batch = options.copy(&out, len(texts)/textsPerInput)
		return nil
	})
	return batch, err
}

// join lays texts back to back, and says where each ends. One text alone is not copied; for several, copying costs a
// thousandth of encoding them and less than pinning each string.
func join(texts []string, replaceInvalid bool) (*byte, []C.size_t) {
	if replaceInvalid {
		valid := make([]string, len(texts))
		for i, text := range texts {
			valid[i] = ReplaceInvalidUTF8(text)
		}
		texts = valid
	}
	ends := make([]C.size_t, len(texts))
	size := 0
	for i, text := range texts {
		size += len(text)
		ends[i] = C.size_t(size)
	}
	if len(texts) == 1 {
		return unsafe.StringData(texts[0]), ends
	}
	data := make([]byte, 0, size)
	for _, text := range texts {
		data = append(data, text...)
	}
	return unsafe.SliceData(data), ends
}

func (o Options) flags() C.uint32_t {
	var flags C.uint32_t
	for _, f := range []struct {
		on   bool
		flag C.uint32_t
	}{
		{!o.NoSpecialTokens, C.DDTOK_SPECIAL_TOKENS},
		{o.TypeIDs, C.DDTOK_TYPE_IDS},
		{o.Offsets, C.DDTOK_OFFSETS},
		{o.WordIDs, C.DDTOK_WORD_IDS},
		{o.SequenceIDs, C.DDTOK_SEQUENCE_IDS},
		{o.WordStarts, C.DDTOK_WORD_STARTS},
		{o.Overflow, C.DDTOK_OVERFLOW},
	} {
		if f.on {
			flags |= f.flag
		}
	}
	return flags
}

// copy moves what was asked for out of the library's memory.
func (o Options) copy(out *C.ddtok_batch, inputs int) *Batch {
	tokens := int(out.tokens)
	return &Batch{
		IDs:         copied[uint32](true, unsafe.Pointer(out.ids), tokens),
		TypeIDs:     copied[uint32](o.TypeIDs, unsafe.Pointer(out.type_ids), tokens),
		Offsets:     copied[Span](o.Offsets, unsafe.Pointer(out.offsets), tokens),
		WordIDs:     copied[int32](o.WordIDs, unsafe.Pointer(out.word_ids), tokens),
		SequenceIDs: copied[int32](o.SequenceIDs, unsafe.Pointer(out.sequence_ids), tokens),
		WordStarts:  copied[bool](o.WordStarts, unsafe.Pointer(out.word_starts), tokens),
		Starts:      copied[int](true, unsafe.Pointer(out.starts), int(out.encodings)+1),
		Firsts:      copied[int](true, unsafe.Pointer(out.firsts), inputs+1),
	}
}

func copied[T any](wanted bool, from unsafe.Pointer, n int) []T {
	if !wanted {
		return nil
	}
	to := make([]T, n)
	copy(to, unsafe.Slice((*T)(from), n))
	return to
}

func encodeError(input uint64, message *C.char) error {
	err := takeError(message)
	if input > math.MaxInt {
		return fmt.Errorf("tokenizer: encode: %w", err)
	}
	return &InputError{Input: int(input), Err: err}
}
