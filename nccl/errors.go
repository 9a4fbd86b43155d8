package nccl

// #include "api.h"
import "C"

import (
	"errors"
	"fmt"

	"github.com/ddprun/ddprun/nccl/dl"
)

// Result is one of NCCL's status codes, ncclResult_t. As an error it is what errors.Is looks for.
type Result int32

// The codes, with the meaning that NCCL's documentation gives them.
const (
	Success       Result = 0
	ErrCUDA       Result = 1 // ncclUnhandledCudaError: a call to CUDA failed
	ErrSystem     Result = 2 // ncclSystemError: a call to the system failed
	ErrInternal   Result = 3 // ncclInternalError: a bug in NCCL, or memory that was overwritten
	ErrArgument   Result = 4 // ncclInvalidArgument: an argument is wrong
	ErrUsage      Result = 5 // ncclInvalidUsage: the call is wrong here
	ErrRemote     Result = 6 // ncclRemoteError: a peer is gone, or the network to it
	ErrInProgress Result = 7 // ncclInProgress: not an error, a non-blocking call goes on
)

var (
	// ErrNotFound: there is no libnccl, or it cannot be opened.
	ErrNotFound = dl.ErrNotFound
	// ErrTooOld: libnccl lacks a function that was called.
	ErrTooOld = errors.New("library too old")
	// ErrClosed: the communicator was aborted or destroyed.
	ErrClosed = errors.New("communicator is closed")
	// ErrTimeout: Await's time is over and the communicator still at work.
	ErrTimeout = errors.New("timed out")
)

// Error names the code; NCCL's own text comes with *Error.
func (r Result) Error() string {
	switch r {
	case Success:
		return "ncclSuccess"
	case ErrCUDA:
		return "ncclUnhandledCudaError"
	case ErrSystem:
		return "ncclSystemError"
	case ErrInternal:
		return "ncclInternalError"
	case ErrArgument:
		return "ncclInvalidArgument"
	case ErrUsage:
		return "ncclInvalidUsage"
	case ErrRemote:
		return "ncclRemoteError"
	case ErrInProgress:
		return "ncclInProgress"
	}
	return fmt.Sprintf("ncclResult %d", int32(r))
}

// Error is a call of NCCL that failed. Its cause is the Result: errors.Is(err, nccl.ErrRemote).
type Error struct {
	Call   string // as ncclAllReduce; ncclCommGetAsyncError for what went wrong behind the calls
	Result Result
	Text   string // ncclGetErrorString's
	Last   string // ncclGetLastError's, may be empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s (%s)", e.Call, e.Text, e.Result.Error())
	if e.Last != "" {
		s += ": " + e.Last
	}
	return s
}

// Unwrap returns the Result.
func (e *Error) Unwrap() error { return e.Result }

// check turns a status into an error: none, ErrInProgress as it is, or an *Error.
func (l *Library) check(call string, rc C.int) error {
	switch r := Result(rc); r {
	case Success:
		return nil
	case ErrInProgress:
		return ErrInProgress
	default:
		return &Error{call, r, l.ErrorString(r), l.LastError()}
	}
}
