package cuda

import (
	"errors"
	"fmt"
)

// Code is one of CUDA's status codes, cudaError_t, as an error.
type Code int32

// The codes that callers tell apart; there are many more, and all have a text in Error.
const (
	ErrMemory         Code = 2
	ErrStub           Code = 34 // the library is a stub of NVIDIA's, for linking only
	ErrNoDriver       Code = 35 // cudaErrorInsufficientDriver: no driver, or one that is older than the runtime
	ErrNoDevice       Code = 100
	ErrInvalidDevice  Code = 101
	ErrInvalidHandle  Code = 400
	codeNotReady      Code = 600
	ErrDriverMismatch Code = 803 // cudaErrorSystemDriverMismatch: kernel module and libcuda.so differ
)

var (
	// ErrTooOld: the runtime lacks a function.
	ErrTooOld = errors.New("library too old")
)

func (c Code) Error() string { return fmt.Sprintf("cudaError %d", int32(c)) }

// Error is a call of CUDA that failed. Its cause is the Code: errors.Is(err, cuda.ErrNoDriver).
type Error struct {
	Call string
	Code Code
	Name string // as cudaErrorNoDevice
	Text string // CUDA's words
	Hint string // what to do about it, may be empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s (%s)", e.Call, e.Text, e.Name)
	if e.Hint != "" {
		s += ": " + e.Hint
	}
	return s
}

// Unwrap returns the Code.
func (e *Error) Unwrap() error { return e.Code }

// hint is what to do where the error is one of the machine's set-up.
func hint(c Code) string {
	switch c {
	case ErrNoDriver:
		return "install NVIDIA's driver, or a newer one (nvidia-smi shows its version and the newest CUDA it takes), or run on device: cpu"
	case ErrNoDevice:
		return "no GPU is visible: see nvidia-smi and CUDA_VISIBLE_DEVICES, or run on device: cpu"
	case ErrDriverMismatch:
		return "the driver's kernel module and libcuda.so.1 are of different versions: reboot after a driver update"
	case ErrStub:
		return "a stub of libcuda.so is on the loader's path: remove it from LD_LIBRARY_PATH"
	}
	return ""
}
