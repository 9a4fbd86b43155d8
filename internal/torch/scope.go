package torch

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"runtime"
	"strings"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"
)

// Error is what libtorch answered to an operation.
type Error struct {
	Op      string // the operation's name
	Message string // libtorch's message
}

func (e *Error) Error() string { return "torch: " + e.Op + ": " + e.Message }

// Scope owns the tensors made in it. Use it in the goroutine that made it.
type Scope struct{ owned []lib.Ctensor }

// Do runs f in a new scope on a locked OS thread, frees the scope's tensors, and returns f's error or, where an operation
// failed, an *[Error]. Other panics pass through.
func Do(f func(s *Scope) error) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := &Scope{}
	defer func() {
		s.free()
		switch p := recover().(type) {
		case nil:
		case *Error:
			err = p
		default:
			panic(p)
		}
	}()
	return f(s)
}

// Move takes t out of the scope: it lives until the caller frees it.
func (s *Scope) Move(t Tensor) Tensor {
	for i := len(s.owned) - 1; i >= 0; i-- {
		if s.owned[i] == t.c {
			s.owned = append(s.owned[:i], s.owned[i+1:]...)
			return t
		}
	}
	panic("torch: Move of a tensor that the scope does not own")
}

// Sub runs f in a scope of its own within s: what f makes is freed when it returns, but for what it returns.
func (s *Scope) Sub(f func(s *Scope) Tensor) Tensor {
	inner := &Scope{}
	defer inner.free()
	t := f(inner)
	inner.Move(t)
	s.owned = append(s.owned, t.c)
	return t
}

// SubAll is [Scope.Sub] for several tensors.
func (s *Scope) SubAll(f func(s *Scope) []Tensor) []Tensor {
	inner := &Scope{}
	defer inner.free()
	all := f(inner)
	for _, t := range all {
		inner.Move(t)
		s.owned = append(s.owned, t.c)
	}
	return all
}

func (s *Scope) free() {
	for _, c := range s.owned {
		lib.AtFree(c)
	}
	live.Add(-int64(len(s.owned)))
	s.owned = s.owned[:0]
}

// own takes the result of libtch's operation op. libtch leaves the result unset when it fails and keeps the message a thread.
func (s *Scope) own(op string, c lib.Ctensor) Tensor {
	if c == nil {
		msg := (*C.char)(unsafe.Pointer(lib.GetAndResetLastErr()))
		panic(&Error{Op: op, Message: takeMessage(msg)})
	}
	live.Add(1)
	s.owned = append(s.owned, c)
	return Tensor{c}
}

// ownShim takes the result of the shim's operation op.
func (s *Scope) ownShim(op string, c C.dt_tensor, err C.dt_error) Tensor {
	must(op, err)
	live.Add(1)
	s.owned = append(s.owned, lib.Ctensor(c))
	return Tensor{lib.Ctensor(c)}
}

func must(op string, err C.dt_error) {
	if err != nil {
		panic(&Error{Op: op, Message: takeMessage(err)})
	}
}

func asError(op string, err C.dt_error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Message: takeMessage(err)}
}

// takeMessage frees a message of C and returns its first paragraph: libtorch appends where in its source it was thrown.
func takeMessage(msg *C.char) string {
	if msg == nil {
		return "failed without a message"
	}
	defer C.free(unsafe.Pointer(msg))
	text, _, _ := strings.Cut(C.GoString(msg), "\nException raised from")
	return strings.TrimSpace(text)
}

func (t Tensor) shim() C.dt_tensor { return C.dt_tensor(t.ptr()) }
