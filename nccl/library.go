package nccl

/*
#include <stdlib.h>
#include "api.h"

static int api_version(struct api *a, int *v) { return a->GetVersion(v); }
static int api_unique(struct api *a, void *id) { return a->GetUniqueId(id); }
static const char *api_error_string(struct api *a, int r) { return a->GetErrorString(r); }
static const char *api_last_error(struct api *a, void *c) { return a->GetLastError(c); }
static int api_group_start(struct api *a) { return a->GroupStart(); }
static int api_group_end(struct api *a) { return a->GroupEnd(); }
*/
import "C"

import (
	"fmt"
	"strings"
	"sync"
	"unsafe"

	"github.com/ddprun/ddprun/nccl/dl"
)

// install is the way out where the library is missing or too old.
const install = "install NCCL (pip install nvidia-nccl-cu13, or -cu12 for CUDA 12)"

var search = dl.Search{
	Variable: "NCCL_LIBRARY",
	Names:    []string{"libnccl.so.2"},
	Packages: []string{"nvidia/nccl/lib"},
	Install:  install,
}

// required are the functions without which nothing works (NCCL 2.14), then those that came later, in the order of struct api.
var (
	required = []string{"ncclGetVersion", "ncclGetUniqueId", "ncclGetErrorString", "ncclGetLastError", "ncclCommInitRankConfig",
		"ncclCommFinalize", "ncclCommDestroy", "ncclCommAbort", "ncclCommGetAsyncError", "ncclCommCount", "ncclCommUserRank", "ncclAllReduce", "ncclBroadcast", "ncclReduce",
		"ncclAllGather", "ncclReduceScatter", "ncclSend", "ncclRecv", "ncclGroupStart", "ncclGroupEnd", "ncclRedOpCreatePreMulSum",
		"ncclRedOpDestroy"}
	newer = []string{"ncclCommSplit", "ncclMemAlloc", "ncclMemFree", "ncclCommRegister", "ncclCommDeregister"}
	since = map[string]string{"ncclCommSplit": "2.18", "ncclMemAlloc": "2.19", "ncclMemFree": "2.19", "ncclCommRegister": "2.19",
		"ncclCommDeregister": "2.19"}
)

// Library is libnccl with its functions looked up. Its methods may be called from any goroutine.
type Library struct {
	api     *C.struct_api // in C's memory, never freed: communicators outlive whoever opened it
	path    string
	version int
	// has* say which of the newer functions there are, so that a call need not look into C's memory.
	hasSplit, hasMem, hasRegister bool
	loopback                      bool
}

// Open finds and opens libnccl.so.2, once a process (the package's comment says where it looks). The error is ErrNotFound, or
// ErrTooOld with what to install.
var Open = sync.OnceValues(open)

func open() (*Library, error) {
	lib, err := search.Open()
	if err != nil {
		return nil, fmt.Errorf("nccl: %w", err)
	}
	names := append(append([]string(nil), required...), newer...)
	l := &Library{path: lib.Path, api: (*C.struct_api)(C.calloc(1, C.sizeof_struct_api))}
	lacks := map[string]bool{}
	for _, name := range lib.Fill(unsafe.Pointer(l.api), names) {
		lacks[name] = true
	}
	if l.api.GetVersion != nil {
		var v C.int
		if rc := C.api_version(l.api, &v); rc != 0 {
			return nil, fmt.Errorf("nccl: %s does not tell its version: %w", lib.Path, Result(rc))
		}
		l.version = int(v)
	}
	for _, name := range required {
		if lacks[name] {
			return nil, l.tooOld(name, "2.14")
		}
	}
	l.loopback = lib.IsDouble()
	l.hasSplit = !lacks["ncclCommSplit"]
	l.hasMem = !lacks["ncclMemAlloc"] && !lacks["ncclMemFree"]
	l.hasRegister = !lacks["ncclCommRegister"] && !lacks["ncclCommDeregister"]
	return l, nil
}

// tooOld says which function the library lacks and what has it.
func (l *Library) tooOld(name, version string) error {
	return fmt.Errorf("nccl: %s is NCCL %s, which has no %s: %s %s or later: %w", l.path, l.VersionString(), name, install, version, ErrTooOld)
}

// Path is the file that was opened.
func (l *Library) Path() string { return l.path }

// Loopback tells whether this is the test double (nccl/loopback), which works on the host's memory.
func (l *Library) Loopback() bool { return l.loopback }

// Version is NCCL's own number, as 22809 for 2.28.9.
func (l *Library) Version() int { return l.version }

// VersionString is Version as people write it.
func (l *Library) VersionString() string {
	v := l.version
	if v < 10000 { // up to 2.8 it was 1000 a major version
		return fmt.Sprintf("%d.%d.%d", v/1000, v/100%10, v%100)
	}
	return fmt.Sprintf("%d.%d.%d", v/10000, v/100%100, v%100)
}

// UniqueID names a communicator to be: one rank makes it, and every rank of the communicator gets it (not over NCCL). The process
// that made it must live until all have joined.
type UniqueID [C.API_UNIQUE_ID_BYTES]byte

// NewUniqueID makes one. It opens a socket that listens on the interface NCCL_SOCKET_IFNAME.
func (l *Library) NewUniqueID() (id UniqueID, err error) {
	rc := C.api_unique(l.api, unsafe.Pointer(&id))
	return id, l.check("ncclGetUniqueId", rc)
}

// ErrorString is NCCL's text for a status code.
func (l *Library) ErrorString(r Result) string {
	return C.GoString(C.api_error_string(l.api, C.int(r)))
}

// LastError is NCCL's last error in words, of any communicator; empty when there was none.
func (l *Library) LastError() string {
	return strings.TrimSpace(C.GoString(C.api_last_error(l.api, nil)))
}

// GroupStart opens a group: the calls up to GroupEnd start together. A group belongs to the OS thread: hold
// runtime.LockOSThread from GroupStart to GroupEnd.
func (l *Library) GroupStart() error { return l.check("ncclGroupStart", C.api_group_start(l.api)) }

// GroupEnd starts the calls of the group. ErrInProgress means that they are still being started: Await each communicator
// of the group before the next call on it.
func (l *Library) GroupEnd() error { return l.check("ncclGroupEnd", C.api_group_end(l.api)) }
