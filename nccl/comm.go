package nccl

/*
#include <stdlib.h>
#include "api.h"

static api_config api_config_new(void) {
    api_config c = API_CONFIG_INITIALIZER;
    c.blocking = 0;
    return c;
}
static int api_init(struct api *a, void **comm, int size, void *id, int rank, api_config *c) {
    return a->CommInitRankConfig(comm, size, *(api_unique_id *)id, rank, c);
}
static int api_split(struct api *a, uintptr_t comm, int color, int key, void **out, api_config *c) {
    return a->CommSplit((void *)comm, color, key, out, c);
}
static int api_finalize(struct api *a, uintptr_t comm) { return a->CommFinalize((void *)comm); }
static int api_destroy(struct api *a, uintptr_t comm) { return a->CommDestroy((void *)comm); }
static int api_abort(struct api *a, uintptr_t comm) { return a->CommAbort((void *)comm); }
static int api_count(struct api *a, uintptr_t comm, int *n) { return a->CommCount((void *)comm, n); }
static int api_rank(struct api *a, uintptr_t comm, int *r) { return a->CommUserRank((void *)comm, r); }
// The state comes back in the same word: no address of Go's has to outlive the call, and nothing is allocated.
static uint64_t api_async(struct api *a, uintptr_t comm) {
    int state = 0;
    int rc = a->CommGetAsyncError((void *)comm, &state);
    return (uint64_t)(uint32_t)rc << 32 | (uint32_t)state;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"
)

// Config is what a communicator may be told; zero values leave the choice to NCCL. Names are those of ncclConfig_t.
type Config struct {
	MinCTAs, MaxCTAs, CGAClusterSize int    // thread blocks that a collective takes on the GPU
	NetName                          string // the network plugin
	SplitShare                       bool   // a split communicator shares the resources of its parent (2.18)
	Name                             string // what logs call it (2.27)
}

// c returns the config in C's terms, non-blocking, and what frees its strings.
func (cfg Config) c() (C.api_config, func()) {
	c := C.api_config_new()
	set := func(to *C.int, v int) {
		if v != 0 {
			*to = C.int(v)
		}
	}
	set(&c.minCTAs, cfg.MinCTAs)
	set(&c.maxCTAs, cfg.MaxCTAs)
	set(&c.cgaClusterSize, cfg.CGAClusterSize)
	if cfg.SplitShare {
		c.splitShare = 1
	}
	if cfg.NetName != "" {
		c.netName = C.CString(cfg.NetName)
	}
	if cfg.Name != "" {
		c.commName = C.CString(cfg.Name)
	}
	return c, func() {
		C.free(unsafe.Pointer(c.netName))
		C.free(unsafe.Pointer(c.commName))
	}
}

// Comm is one rank of a communicator. All are non-blocking (ncclConfig_t.blocking = 0): no method but Await waits for a peer.
//
// One goroutine at a time issues collectives; AsyncError and Abort may be called beside it from any. The caller ends it once, with
// Abort or Destroy; later calls return ErrClosed.
type Comm struct {
	lib  *Library
	rank int
	size int

	// mu is held for reading in every call, which is short, and for writing by what frees comm.
	mu   sync.RWMutex
	comm C.uintptr_t // ncclComm_t, 0 once closed
}

// NewComm begins to join the communicator of id as rank of size, on the CUDA device that is current on the calling OS thread
// (ncclCommInitRankConfig). It comes back before the peers are there: Await says when they are. The calling thread's device
// must stay what it is until then.
func (l *Library) NewComm(id UniqueID, rank, size int, cfg Config) (*Comm, error) {
	c, free := cfg.c()
	defer free()
	cell := newCell()
	defer cell.free()
	rc := C.api_init(l.api, cell.at, C.int(size), unsafe.Pointer(&id), C.int(rank), &c)
	if err := l.check("ncclCommInitRankConfig", rc); err != nil && err != ErrInProgress {
		return nil, fmt.Errorf("nccl: rank %d of %d cannot join: %w", rank, size, err)
	}
	return &Comm{lib: l, rank: rank, size: size, comm: cell.value()}, nil
}

// cell is a pointer's place in C's memory, for NCCL to write a communicator to.
type cell struct{ at *unsafe.Pointer }

func newCell() cell { return cell{(*unsafe.Pointer)(C.calloc(1, C.size_t(unsafe.Sizeof(uintptr(0)))))} }

func (c cell) value() C.uintptr_t { return C.uintptr_t(uintptr(*c.at)) }
func (c cell) free()              { C.free(unsafe.Pointer(c.at)) }

// Rank of this process in the communicator.
func (c *Comm) Rank() int { return c.rank }

// Size is the number of ranks.
func (c *Comm) Size() int { return c.size }

// AsyncError returns what the communicator is at: nil when all is well, ErrInProgress while a non-blocking call goes on, else an
// *Error; then Abort is the only way on. It does not block (ncclCommGetAsyncError).
func (c *Comm) AsyncError() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.comm == 0 {
		return ErrClosed
	}
	word := C.api_async(c.lib.api, c.comm)
	if rc := C.int(word >> 32); rc != 0 {
		return c.lib.check("ncclCommGetAsyncError", rc)
	}
	return c.lib.check("ncclCommGetAsyncError", C.int(uint32(word)))
}

// Await polls AsyncError until the call before it has ended. After timeout it returns ErrTimeout, and the communicator is as it was.
func (c *Comm) Await(timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for pause := 10 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		err := c.AsyncError()
		if err != ErrInProgress {
			return err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("nccl: rank %d of %d still waits after %s: %w", c.rank, c.size, timeout, ErrTimeout)
		}
		time.Sleep(min(pause, left))
	}
}

// Split divides the communicator by color, ranks in the order of key (ncclCommSplit, NCCL 2.18). Every rank calls it; one whose color is
// negative gets nil. It waits up to timeout for both communicators to be ready.
func (c *Comm) Split(color, key int, cfg Config, timeout time.Duration) (*Comm, error) {
	if !c.lib.hasSplit {
		return nil, c.lib.tooOld("ncclCommSplit", since["ncclCommSplit"])
	}
	if color < 0 {
		color = C.API_SPLIT_NOCOLOR
	}
	deadline := time.Now().Add(timeout)
	config, free := cfg.c()
	defer free()
	cell := newCell()
	if err := c.call("ncclCommSplit", func(comm C.uintptr_t) C.int {
		return C.api_split(c.lib.api, comm, C.int(color), C.int(key), cell.at, &config)
	}); err != nil && err != ErrInProgress {
		cell.free()
		return nil, err
	}
	// The place is filled once the parent is ready (NCCL 2.23), so on time-out it is given up and not freed.
	if err := c.Await(timeout); err != nil {
		return nil, err
	}
	defer cell.free()
	if color < 0 {
		return nil, nil
	}
	child := &Comm{lib: c.lib, rank: c.rank, size: c.size, comm: cell.value()}
	if err := child.Await(time.Until(deadline)); err != nil {
		return nil, errors.Join(err, child.Abort())
	}
	if err := child.place(); err != nil {
		return nil, errors.Join(err, child.Abort())
	}
	return child, nil
}

// place asks NCCL for the rank and size.
func (c *Comm) place() error {
	var rank, size C.int
	if err := c.call("ncclCommUserRank", func(comm C.uintptr_t) C.int { return C.api_rank(c.lib.api, comm, &rank) }); err != nil {
		return err
	}
	if err := c.call("ncclCommCount", func(comm C.uintptr_t) C.int { return C.api_count(c.lib.api, comm, &size) }); err != nil {
		return err
	}
	c.rank, c.size = int(rank), int(size)
	return nil
}

// Finalize begins to flush what is under way (ncclCommFinalize); Await says when that is done, and Destroy comes after.
func (c *Comm) Finalize() error {
	return c.call("ncclCommFinalize", func(comm C.uintptr_t) C.int { return C.api_finalize(c.lib.api, comm) })
}

// Destroy frees the communicator (ncclCommDestroy), after Finalize and Await. Without them it waits for the peers.
func (c *Comm) Destroy() error {
	return c.end("ncclCommDestroy", func(comm C.uintptr_t) C.int { return C.api_destroy(c.lib.api, comm) })
}

// Abort ends what is under way on this rank, unfinished, and frees the communicator (ncclCommAbort). Its peers need to be told.
func (c *Comm) Abort() error {
	return c.end("ncclCommAbort", func(comm C.uintptr_t) C.int { return C.api_abort(c.lib.api, comm) })
}

// call is for calls that are rare; collectives take the lock themselves and so spare the closure.
func (c *Comm) call(name string, f func(C.uintptr_t) C.int) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.comm == 0 {
		return ErrClosed
	}
	return c.lib.check(name, f(c.comm))
}

func (c *Comm) end(name string, f func(C.uintptr_t) C.int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.comm == 0 {
		return ErrClosed
	}
	comm := c.comm
	c.comm = 0
	return c.lib.check(name, f(comm))
}
