package tokenizer

/*
#cgo LDFLAGS: ${SRCDIR}/lib/libddprun_tokenizers.a -lm -ldl -lpthread
#include "ddtok.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"
)

// ErrClosed is returned by the methods of a Tokenizer after Close.
var ErrClosed = errors.New("tokenizer: closed")

// Tokenizer encodes and decodes text. It is safe for use by several goroutines at once.
type Tokenizer struct {
	mu      sync.RWMutex // held for reading during calls, so that Close waits for them
	handle  *C.ddtok_tokenizer
	cleanup runtime.Cleanup
}

// New reads a tokenizer.json. Its truncation and padding are dropped. The error of a broken one has the parser's message,
// with line and column; the caller adds the file's name. The tokenizer belongs to the caller, who closes it.
func New(json []byte) (*Tokenizer, error) {
	var message *C.char
	handle := C.ddtok_new((*C.uint8_t)(unsafe.SliceData(json)), C.size_t(len(json)), &message)
	if handle == nil {
		return nil, fmt.Errorf("tokenizer: read tokenizer.json: %w", takeError(message))
	}
	return own(handle), nil
}

func own(handle *C.ddtok_tokenizer) *Tokenizer {
	t := &Tokenizer{handle: handle}
	t.cleanup = runtime.AddCleanup(t, func(handle *C.ddtok_tokenizer) { C.ddtok_free(handle) }, handle)
	return t
}

// Close frees the tokenizer after waiting for calls under way. More than one Close does nothing more.
func (t *Tokenizer) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.handle != nil {
		t.cleanup.Stop()
		C.ddtok_free(t.handle)
		t.handle = nil
	}
}

// with calls f with the handle, which stays valid until f returns.
func (t *Tokenizer) with(f func(handle *C.ddtok_tokenizer) error) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.handle == nil {
		return ErrClosed
	}
	return f(t.handle)
}

// takeError makes a Go error of a message of the library and frees it.
func takeError(message *C.char) error {
	defer C.ddtok_error_free(message)
	return errors.New(C.GoString(message))
}
