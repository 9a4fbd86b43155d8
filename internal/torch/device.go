package torch

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"unsafe"
)

// HasDriver tells whether NVIDIA's driver is installed; it opens nothing else.
func HasDriver() bool { return C.dt_has_driver() != 0 }

// OpenCUDA opens libtorch's CUDA half, once a process, and returns the number of GPUs that CUDA_VISIBLE_DEVICES leaves. No GPU, no driver or no such library is
// an error that says what to install.
var OpenCUDA = sync.OnceValues(func() (gpus int, err error) {
	settleAllocator()
	var n C.int
	if err := C.dt_open_cuda(&n); err != nil {
		return 0, fmt.Errorf("%s", takeMessage(err))
	}
	if n < 1 {
		return 0, fmt.Errorf("no GPU is visible: see nvidia-smi, whether the driver is new enough for this libtorch (%s), and CUDA_VISIBLE_DEVICES", Version())
	}
	return int(n), nil
})

// settleAllocator has libtorch's caching allocator round sizes up to one of eight between two powers of two, unless somebody has set it: micro-batches have
// other numbers of tokens each, and a block shall fit the next one too. libtorch reads it when its CUDA half is opened.
func settleAllocator() {
	for _, name := range []string{"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} {
		if _, set := os.LookupEnv(name); set {
			return
		}
	}
	os.Setenv("PYTORCH_ALLOC_CONF", "roundup_power2_divisions:8")
}

// UseCUDA makes a GPU the place of models' tensors in this process, and the current device of the calling OS thread.
func UseCUDA(device int) error { return asError("use_cuda", C.dt_use_cuda(C.int(device))) }

// UseCPU makes the CPU the place of models' tensors again; for tests.
func UseCPU() { C.dt_use_cpu() }

// ForbidWaits makes libtorch's own operations fail that would have the host wait for a GPU, in the whole process; for tests. It needs the CUDA half to be open.
func ForbidWaits(on bool) error { return asError("forbid_waits", C.dt_forbid_waits(cBool(on))) }

// SetPrecision says whether matrix products of float32 may round their factors to TF32 on GPUs that have it, and whether operations must repeat bit for bit,
// for the whole process. Call it before [OpenCUDA]: cuBLAS repeats itself only with a workspace of set size, which it reads once.
func SetPrecision(tf32, deterministic bool) error {
	const workspace = "CUBLAS_WORKSPACE_CONFIG"
	if _, set := os.LookupEnv(workspace); deterministic && !set {
		os.Setenv(workspace, ":4096:8")
	}
	return asError("precision", C.dt_set_precision(cBool(tf32), cBool(deterministic)))
}

// Pretend makes tensors on the CPU take the way of those on a GPU: composed layers, inputs that are staged, results that come late. For tests.
func Pretend(on bool) { C.dt_pretend(cBool(on)) }

// Composed tells whether layers are composed of libtorch's operations, as on a GPU: then nothing of a step can be read at once.
func Composed() bool { return C.dt_composed() != 0 }

// DeviceZeros is Zeros where models' tensors live.
func (s *Scope) DeviceZeros(d DType, dims ...int64) Tensor {
	var out C.dt_tensor
	err := C.dt_device_zeros(dimsPtr(dims), C.int(len(dims)), C.int(d), &out)
	return s.ownShim("device_zeros", out, err)
}

// Input returns a vector with a copy of v where models' tensors live. Nothing waits for the copy, and v may change at once.
func (s *Scope) Input(v []int64) Tensor {
	var out C.dt_tensor
	err := C.dt_stage(unsafe.Pointer(unsafe.SliceData(v)), C.int64_t(len(v)), C.int(Int64), &out)
	return s.ownShim("input", out, err)
}

// Inputs is Input of several vectors in one copy.
func (s *Scope) Inputs(vectors ...[]int64) []Tensor {
	var all []int64
	for _, v := range vectors {
		all = append(all, v...)
	}
	flat := s.Input(all)
	out := make([]Tensor, len(vectors))
	at := int64(0)
	for i, v := range vectors {
		out[i] = s.View(flat, at, int64(len(v)))
		at += int64(len(v))
	}
	return out
}

// ToHost returns a contiguous copy of t in the host's memory. It waits for t.
func (s *Scope) ToHost(t Tensor) Tensor {
	var out C.dt_tensor
	err := C.dt_to_host(t.shim(), &out)
	return s.ownShim("to_host", out, err)
}

// ReadFloat32s copies t, on whatever device, into to. It waits for t.
func (t Tensor) ReadFloat32s(to []float32) {
	must("read", C.dt_read(t.shim(), (*C.float)(unsafe.Pointer(unsafe.SliceData(to))), C.int64_t(len(to))))
}

// Fill lets f change t's elements, contiguous Float32, which it gets as they are: t's own memory on the CPU, else a copy that is then written back. Nothing is written
// where f fails. It waits for t.
func (t Tensor) Fill(f func(x []float32) error) error {
	if !Composed() {
		return f(t.Float32s())
	}
	x := make([]float32, t.Numel())
	t.ReadFloat32s(x)
	if err := f(x); err != nil {
		return err
	}
	must("write", C.dt_write(t.shim(), (*C.float)(unsafe.Pointer(unsafe.SliceData(x))), C.int64_t(len(x))))
	return nil
}

// Numbers returns values, scalars and vectors of floats on one device, one after another as a vector of Float64 there, for [NewFetch]. Nothing waits, and nothing is recorded
// for backward.
func (s *Scope) Numbers(values ...Tensor) Tensor {
	var out C.dt_tensor
	err := C.dt_numbers(list(values), C.int(len(values)), &out)
	return s.ownShim("numbers", out, err)
}

// Fetch is a vector of Float64 on its way to the host. Wait or Drop is called once.
type Fetch struct {
	c C.dt_fetch_handle
	n int64
}

// NewFetch starts to copy t to the host; nothing waits for it.
func NewFetch(t Tensor) *Fetch {
	f := &Fetch{n: t.Numel()}
	must("fetch", C.dt_fetch(t.shim(), &f.c))
	return f
}

// Done tells whether the copy has come. Of a tensor on the CPU it is false, so that tests see the longest delay.
func (f *Fetch) Done() bool {
	var done C.int
	must("fetch", C.dt_fetch_done(f.c, &done))
	return done != 0
}

// Wait waits for the copy and returns it.
func (f *Fetch) Wait() ([]float64, error) {
	out := make([]float64, f.n)
	return out, asError("fetch", C.dt_fetch_wait(f.c, (*C.double)(unsafe.Pointer(unsafe.SliceData(out))), C.int64_t(f.n)))
}

// Drop gives the copy up.
func (f *Fetch) Drop() { C.dt_fetch_free(f.c) }

// Trace returns the operations that the calling OS thread asks of libtorch while f runs, such as aten::add.Tensor, and the shim's own calls that would wait for a
// device (shim::...). The caller has locked its OS thread. For tests.
func Trace(f func()) []string {
	must("trace", C.dt_trace_begin())
	defer func() {
		if p := recover(); p != nil {
			C.free(unsafe.Pointer(C.dt_trace_end()))
			panic(p)
		}
	}()
	f()
	text := C.dt_trace_end()
	defer C.free(unsafe.Pointer(text))
	return strings.Fields(C.GoString(text))
}

// waits are the operations after which the host waits for a GPU.
var waits = map[string]bool{"aten::_local_scalar_dense": true, "aten::item": true, "aten::nonzero": true, "aten::masked_select": true, "aten::equal": true,
	"aten::is_nonzero": true, "aten::_unique2": true, "aten::unique_dim": true, "aten::unique_consecutive": true, "aten::repeat_interleave.Tensor": true,
	"aten::allclose": true, "aten::bincount": true, "aten::one_hot": true}

// Waits returns those of a trace that make the host wait for a GPU.
func Waits(trace []string) []string {
	var found []string
	for _, name := range trace {
		if waits[name] || strings.HasPrefix(name, "shim::") {
			found = append(found, name)
		}
	}
	return found
}

// openLibrary opens a part of libtorch that needs no driver for that; for tests.
func openLibrary(file string) error {
	c := C.CString(file)
	defer C.free(unsafe.Pointer(c))
	return asError("open", C.dt_open_library(c))
}

// hasCUDAKernel tells whether an operation, such as aten::add.Tensor, can run on a GPU; for tests.
func hasCUDAKernel(name string) bool {
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	return C.dt_has_cuda_kernel(c) != 0
}
