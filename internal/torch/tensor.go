package torch

// #include "shim.h"
import "C"

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"
)

// DType is an element type, numbered as libtorch's ScalarType.
type DType int32

// The element types in use.
const (
	Int32    DType = 3
	Int64    DType = 4
	Float16  DType = 5
	Float32  DType = 6
	Float64  DType = 7
	BFloat16 DType = 15
)

// String returns the name that libtorch has for d.
func (d DType) String() string {
	switch d {
	case Int32:
		return "int32"
	case Int64:
		return "int64"
	case Float16:
		return "float16"
	case Float32:
		return "float32"
	case Float64:
		return "float64"
	case BFloat16:
		return "bfloat16"
	}
	return fmt.Sprint("dtype ", int32(d))
}

// Size returns the bytes of one element.
func (d DType) Size() int64 {
	switch d {
	case Float16, BFloat16:
		return 2
	case Int32, Float32:
		return 4
	case Int64, Float64:
		return 8
	}
	panic(fmt.Sprintf("torch: no size for dtype %d", d))
}

// Tensor is a handle of a libtorch tensor. The zero value is no tensor; where an operation documents it, that means "none".
// Copies share the tensor. Whoever owns it (a [Scope], or the caller after [Scope.Move]) frees it once.
type Tensor struct{ c lib.Ctensor }

var live atomic.Int64

// Live returns the number of tensors that Go owns at this moment. Tests compare it before and after a step.
func Live() int64 { return live.Load() }

// Defined reports whether t is a tensor.
func (t Tensor) Defined() bool { return t.c != nil }

func (t Tensor) ptr() unsafe.Pointer { return unsafe.Pointer(t.c) }

// Free releases a tensor that left its scope by [Scope.Move]. Freeing the zero Tensor does nothing.
func (t Tensor) Free() {
	if t.c != nil {
		lib.AtFree(t.c)
		live.Add(-1)
	}
}

// Shape returns the dimensions.
func (t Tensor) Shape() []int64 {
	dims := make([]int64, lib.AtDim(t.c))
	if len(dims) > 0 {
		lib.AtShape(t.c, unsafe.Pointer(&dims[0]))
	}
	return dims
}

// Numel returns the number of elements.
func (t Tensor) Numel() int64 {
	n := int64(1)
	for _, d := range t.Shape() {
		n *= d
	}
	return n
}

// DType returns the element type.
func (t Tensor) DType() DType { return DType(lib.AtScalarType(t.c)) }

// Float32s returns the tensor's own memory, valid as long as the tensor. It must be a contiguous Float32 tensor on the CPU.
func (t Tensor) Float32s() []float32 {
	return unsafe.Slice((*float32)(t.memory(Float32)), t.Numel())
}

// Int64s returns the tensor's own memory, as [Tensor.Float32s].
func (t Tensor) Int64s() []int64 {
	return unsafe.Slice((*int64)(t.memory(Int64)), t.Numel())
}

// Float64s returns the tensor's own memory, as [Tensor.Float32s].
func (t Tensor) Float64s() []float64 {
	return unsafe.Slice((*float64)(t.memory(Float64)), t.Numel())
}

// Address returns where the tensor's elements lie, in the memory of its device. It must be contiguous.
func (t Tensor) Address() uintptr {
	var p C.uintptr_t
	must("address", C.dt_address(t.shim(), &p))
	return uintptr(p)
}

func (t Tensor) memory(want DType) unsafe.Pointer {
	var p unsafe.Pointer
	must("memory", C.dt_memory(t.shim(), C.int(want), &p))
	return p
}
