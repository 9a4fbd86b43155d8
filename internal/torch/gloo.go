package torch

// #cgo CXXFLAGS: -std=c++17 -O3 -I${SRCDIR}/include
// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"runtime/cgo"
	"sync"
	"time"
	"unsafe"
)

// Gloo is the process group inside libtorch. Its collectives are started in the same order on every rank and run on a thread of
// its own; the tensors must live, and must not be touched, until their [Work] is done.
type Gloo struct {
	c      C.dt_gloo
	handle cgo.Handle
	closed sync.Once
}

// NewGloo meets the other ranks through store and connects to them from the address that hostname names. It blocks, at most
// timeout, which bounds every later collective too.
func NewGloo(store Store, rank, size int, hostname string, timeout time.Duration) (*Gloo, error) {
	g := &Gloo{handle: cgo.NewHandle(store)}
	host := C.CString(hostname)
	defer C.free(unsafe.Pointer(host))
	err := C.dt_gloo_new(C.uintptr_t(g.handle), host, C.int(rank), C.int(size), C.int64_t(timeout.Milliseconds()), &g.c)
	if err != nil {
		g.handle.Delete()
		return nil, asError("gloo", err)
	}
	return g, nil
}

// Work is a collective under way. Wait exactly once.
type Work struct{ c C.dt_work }

// Wait blocks until the collective is done or failed: a dead peer is an error within milliseconds, a silent one after the timeout.
func (w Work) Wait() error { return asError("collective", C.dt_work_wait(w.c)) }

// AllReduce starts summing t over the ranks, in place.
func (g *Gloo) AllReduce(t Tensor) (Work, error) {
	var w Work
	err := C.dt_gloo_allreduce(g.c, t.shim(), &w.c)
	return w, asError("all-reduce", err)
}

// Broadcast starts copying root's t to every rank's t.
func (g *Gloo) Broadcast(t Tensor, root int) (Work, error) {
	var w Work
	err := C.dt_gloo_broadcast(g.c, t.shim(), C.int(root), &w.c)
	return w, asError("broadcast", err)
}

// AllGather starts copying rank r's t [n] to row r of every rank's out [size, n].
func (g *Gloo) AllGather(t, out Tensor) (Work, error) {
	var w Work
	err := C.dt_gloo_allgather(g.c, t.shim(), out.shim(), &w.c)
	return w, asError("all-gather", err)
}

// Abort makes collectives under way fail; the group is useless after it.
func (g *Gloo) Abort() { C.dt_gloo_abort(g.c) }

// Close frees the group, after every Work was waited for; it may be called twice.
func (g *Gloo) Close() {
	g.closed.Do(func() {
		C.dt_gloo_free(g.c)
		g.handle.Delete()
	})
}
