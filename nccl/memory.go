package nccl

/*
#include "api.h"

// The address is the result, 0 with a status in *rc; a word in C's frame, not in Go's.
struct api_address { uintptr_t at; int rc; };
static struct api_address api_mem_alloc(struct api *a, size_t bytes) {
    void *p = 0;
    int rc = a->MemAlloc(&p, bytes);
    return (struct api_address){(uintptr_t)p, rc};
}
static int api_mem_free(struct api *a, uintptr_t p) { return a->MemFree((void *)p); }
static struct api_address api_register(struct api *a, uintptr_t c, uintptr_t p, size_t bytes) {
    void *handle = 0;
    int rc = a->CommRegister((void *)c, (void *)p, bytes, &handle);
    return (struct api_address){(uintptr_t)handle, rc};
}
static int api_deregister(struct api *a, uintptr_t c, uintptr_t handle) { return a->CommDeregister((void *)c, (void *)handle); }
*/
import "C"

// MemAlloc returns memory of the current device that NCCL can use without copies (ncclMemAlloc, NCCL 2.19), for MemFree.
func (l *Library) MemAlloc(bytes int) (uintptr, error) {
	if !l.hasMem {
		return 0, l.tooOld("ncclMemAlloc", since["ncclMemAlloc"])
	}
	r := C.api_mem_alloc(l.api, C.size_t(bytes))
	return uintptr(r.at), l.check("ncclMemAlloc", r.rc)
}

// MemFree frees what MemAlloc returned.
func (l *Library) MemFree(p uintptr) error {
	if !l.hasMem {
		return l.tooOld("ncclMemFree", since["ncclMemFree"])
	}
	return l.check("ncclMemFree", C.api_mem_free(l.api, C.uintptr_t(p)))
}

// Registration is a buffer that a communicator knows, for Deregister.
type Registration uintptr

// Register tells the communicator of a buffer, so that collectives on it need no copies (ncclCommRegister, NCCL 2.19).
func (c *Comm) Register(p uintptr, bytes int) (Registration, error) {
	if !c.lib.hasRegister {
		return 0, c.lib.tooOld("ncclCommRegister", since["ncclCommRegister"])
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.comm == 0 {
		return 0, ErrClosed
	}
	r := C.api_register(c.lib.api, c.comm, C.uintptr_t(p), C.size_t(bytes))
	return Registration(r.at), c.lib.check("ncclCommRegister", r.rc)
}

// Deregister undoes Register, before the memory is freed.
func (c *Comm) Deregister(r Registration) error {
	if !c.lib.hasRegister {
		return c.lib.tooOld("ncclCommDeregister", since["ncclCommDeregister"])
	}
	return c.call("ncclCommDeregister", func(comm C.uintptr_t) C.int { return C.api_deregister(c.lib.api, comm, C.uintptr_t(r)) })
}
