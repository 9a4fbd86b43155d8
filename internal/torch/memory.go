package torch

// #include "shim.h"
import "C"

import (
	"runtime"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"
)

// Zeros returns a new tensor of zeros; its memory starts at a multiple of 64 bytes.
func (s *Scope) Zeros(d DType, dims ...int64) Tensor {
	var out C.dt_tensor
	err := C.dt_zeros(dimsPtr(dims), C.int(len(dims)), C.int(d), &out)
	return s.ownShim("zeros", out, err)
}

// FromMemory returns the n elements at memory as a vector. Whoever gave the memory keeps it until the tensor and all its views are freed.
func (s *Scope) FromMemory(d DType, memory unsafe.Pointer, n int64) Tensor {
	var out C.dt_tensor
	err := C.dt_from_memory(memory, C.int64_t(n), C.int(d), &out)
	return s.ownShim("from_memory", out, err)
}

// FromInt64s returns a vector with a copy of v.
func (s *Scope) FromInt64s(v []int64) Tensor {
	var out C.dt_tensor
	err := C.dt_from_int64((*C.int64_t)(unsafe.Pointer(unsafe.SliceData(v))), C.int64_t(len(v)), &out)
	return s.ownShim("from_int64", out, err)
}

// FromFloat32s returns a tensor of the given dimensions with a copy of v.
func (s *Scope) FromFloat32s(v []float32, dims ...int64) Tensor {
	t := s.Zeros(Float32, dims...)
	if int(t.Numel()) != len(v) {
		panic(&Error{Op: "from_float32", Message: "dimensions and data differ in size"})
	}
	copy(t.Float32s(), v)
	return t
}

// View returns the elements offset, offset+1, ... of the vector flat as a tensor of the given dimensions, sharing memory.
func (s *Scope) View(flat Tensor, offset int64, dims ...int64) Tensor {
	var out C.dt_tensor
	err := C.dt_slice1d_view(flat.shim(), C.int64_t(offset), dimsPtr(dims), C.int(len(dims)), &out)
	return s.ownShim("view", out, err)
}

func dimsPtr(dims []int64) *C.int64_t { return (*C.int64_t)(unsafe.Pointer(unsafe.SliceData(dims))) }

// SetRequiresGrad says whether backward computes t's gradient.
func (t Tensor) SetRequiresGrad(on bool) {
	flag := C.int(0)
	if on {
		flag = 1
	}
	must("requires_grad", C.dt_set_requires_grad(t.shim(), flag))
}

// RequiresGrad tells whether backward from t would compute anything.
func (t Tensor) RequiresGrad() bool { return lib.AtRequiresGrad(t.c) }

// SetGrad makes grad the place where t's gradient accumulates; both keep their owners. No tensor: none.
func (t Tensor) SetGrad(grad Tensor) { must("set_grad", C.dt_set_grad(t.shim(), grad.shim())) }

// Zero sets every element to 0.
func (t Tensor) Zero() { must("zero", C.dt_zero(t.shim())) }

// Backward computes gradients of the scalar loss t, adding to each parameter's gradient.
func (t Tensor) Backward() { must("backward", C.dt_backward(t.shim())) }

// Value returns the one element of t.
func (t Tensor) Value() float64 {
	var v C.double
	must("value", C.dt_scalar_value(t.shim(), &v))
	return float64(v)
}

// SetBF16 makes [Scope.Linear], [Scope.GeluLinear] and [Scope.LinearCrossEntropy] multiply matrices in bfloat16, forward and backward, in the whole process.
// Everything between stays float32: parameters, gradients, attention, norms, losses.
func SetBF16(on bool) {
	flag := C.int(0)
	if on {
		flag = 1
	}
	C.dt_set_bf16(flag)
}

// NoGrad runs f without recording operations for backward, on a locked OS thread, since the mode belongs to the thread.
func NoGrad(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := lib.AtGradSetEnabled(0)
	defer lib.AtGradSetEnabled(before)
	f()
}

// SetThreads sets the number of threads, at least 1, that an operation may use. Call it on the locked OS thread that runs the operations: MKL and
// OpenMP keep the number a thread, and another number gives other roundings.
func SetThreads(n int) { must("set_threads", C.dt_set_threads(C.int(n))) }

// TuneAllocator sets glibc's malloc for training, once a process: tensors of 4 MiB and more are mapped and unmapped one by one, so that the heap does not
// fill with holes of their size, and the heap itself, which the smaller ones use again every step, is never given back
// after this call has given back what is free.
func TuneAllocator() { must("tune_allocator", C.dt_tune_allocator()) }

// Version returns libtorch's version, such as "2.11.0".
func Version() string { return C.GoString(C.dt_version()) }
