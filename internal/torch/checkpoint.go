package torch

// #include "shim.h"
import "C"

import (
	"runtime/cgo"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"
)

// Checkpoint returns what f makes of inputs, keeps none of its intermediate tensors, and runs it again in backward, so that a model's memory grows with
// what lies between its segments alone (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016). f must do the same both times, and what it
// reads beside its inputs must still be there in backward. Gradients flow to inputs and to parameters; one that several segments use, or that is used
// outside of them, has to be an input, or its gradient comes in parts (see [Buckets.Late]).
func (s *Scope) Checkpoint(inputs []Tensor, f func(s *Scope, inputs []Tensor) []Tensor) []Tensor {
	first := &Scope{}
	defer first.free()
	var made []Tensor
	NoGrad(func() { made = f(first, inputs) })
	handle := cgo.NewHandle(f) // the segment forgets it, also where it could not be made
	results := make([]C.dt_tensor, len(made))
	must("checkpoint", C.dt_checkpoint(list(inputs), C.int(len(inputs)), list(made), C.int(len(made)), C.uintptr_t(handle), &results[0]))
	out := make([]Tensor, len(made))
	for i, c := range results {
		out[i] = s.ownShim("checkpoint", c, nil)
	}
	return out
}

//export ddprunRecompute
func ddprunRecompute(handle C.uintptr_t, inputs *unsafe.Pointer, ninputs C.int, grads *unsafe.Pointer, ngrads C.int) *C.char {
	f := cgo.Handle(handle).Value().(func(*Scope, []Tensor) []Tensor)
	err := Do(func(s *Scope) error {
		made := f(s, borrowed(inputs, ninputs))
		given := borrowed(grads, ngrads)
		return asError("backward", C.dt_backward_from(list(made), list(given), C.int(len(made))))
	})
	if err != nil {
		return C.CString(err.Error())
	}
	return nil
}

// borrowed views tensors of C as a list.
func borrowed(tensors *unsafe.Pointer, n C.int) []Tensor {
	out := make([]Tensor, n)
	for i, p := range unsafe.Slice(tensors, n) {
		out[i] = Tensor{lib.Ctensor(p)}
	}
	return out
}

//export ddprunForget
func ddprunForget(handle C.uintptr_t) { cgo.Handle(handle).Delete() }
