package tokenizer

// #include "ddtok.h"
import "C"

import (
	"fmt"
	"unsafe"
)

// VocabSize returns the number of tokens, with or without the added ones that are not in the model's own vocabulary.
// Ids may have gaps, so the highest id can be larger.
func (t *Tokenizer) VocabSize(withAdded bool) (int, error) {
	var size C.int64_t
	err := t.with(func(handle *C.ddtok_tokenizer) error {
		var message *C.char
		size = C.ddtok_vocab_size(handle, C.bool(withAdded), &message)
		return failure("count tokens", message)
	})
	return int(size), err
}

// TokenToID returns the id of a token as the vocabulary spells it ("##ing", "\u0120the"), and whether there is such a token.
func (t *Tokenizer) TokenToID(token string) (uint32, bool, error) {
	var id C.int64_t
	err := t.with(func(handle *C.ddtok_tokenizer) error {
		var message *C.char
		id = C.ddtok_token_to_id(handle, (*C.uint8_t)(unsafe.StringData(token)), C.size_t(len(token)), &message)
		return failure("look up a token", message)
	})
	if err != nil || id < 0 {
		return 0, false, err
	}
	return uint32(id), true, nil
}

// IDToToken returns the token of an id as the vocabulary spells it, and whether there is such an id.
func (t *Tokenizer) IDToToken(id uint32) (string, bool, error) {
	var token string
	var found bool
	err := t.with(func(handle *C.ddtok_tokenizer) error {
		var message *C.char
		var out C.ddtok_bytes
		if C.ddtok_id_to_token(handle, C.uint32_t(id), &out, &message) == 0 {
			token, found = takeString(out), true
		}
		return failure("look up an id", message)
	})
	return token, found, err
}

// Decode turns ids back into text, with or without special tokens. Unknown ids are left out, as Hugging Face does.
func (t *Tokenizer) Decode(ids []uint32, skipSpecial bool) (string, error) {
	var text string
	err := t.with(func(handle *C.ddtok_tokenizer) error {
		var message *C.char
		var out C.ddtok_bytes
		if C.ddtok_decode(handle, (*C.uint32_t)(unsafe.SliceData(ids)), C.size_t(len(ids)), C.bool(skipSpecial), &out, &message) == 0 {
			text = takeString(out)
		}
		return failure("decode", message)
	})
	return text, err
}

// failure is the error of a call that sets a message when it fails; nil without one.
func failure(doing string, message *C.char) error {
	if message == nil {
		return nil
	}
	return fmt.Errorf("tokenizer: %s: %w", doing, takeError(message))
}

// takeString copies a string of the library and frees it.
func takeString(bytes C.ddtok_bytes) string {
	defer C.ddtok_bytes_free(bytes)
	return string(unsafe.Slice((*byte)(bytes.data), int(bytes.length)))
}
