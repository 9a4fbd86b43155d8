package nccl

/*
#include "api.h"

#define P(x) ((void *)(x))
static int api_all_reduce(struct api *a, uintptr_t in, uintptr_t out, size_t n, int t, int op, uintptr_t c, uintptr_t s) {
    return a->AllReduce(P(in), P(out), n, t, op, P(c), P(s));
}
static int api_broadcast(struct api *a, uintptr_t in, uintptr_t out, size_t n, int t, int root, uintptr_t c, uintptr_t s) {
    return a->Broadcast(P(in), P(out), n, t, root, P(c), P(s));
}
static int api_reduce(struct api *a, uintptr_t in, uintptr_t out, size_t n, int t, int op, int root, uintptr_t c, uintptr_t s) {
    return a->Reduce(P(in), P(out), n, t, op, root, P(c), P(s));
}
static int api_all_gather(struct api *a, uintptr_t in, uintptr_t out, size_t n, int t, uintptr_t c, uintptr_t s) {
    return a->AllGather(P(in), P(out), n, t, P(c), P(s));
}
static int api_reduce_scatter(struct api *a, uintptr_t in, uintptr_t out, size_t n, int t, int op, uintptr_t c, uintptr_t s) {
    return a->ReduceScatter(P(in), P(out), n, t, op, P(c), P(s));
}
static int api_send(struct api *a, uintptr_t in, size_t n, int t, int peer, uintptr_t c, uintptr_t s) {
    return a->Send(P(in), n, t, peer, P(c), P(s));
}
static int api_recv(struct api *a, uintptr_t out, size_t n, int t, int peer, uintptr_t c, uintptr_t s) {
    return a->Recv(P(out), n, t, peer, P(c), P(s));
}
// The new operator in the low word.
static uint64_t api_premul(struct api *a, uint64_t scalar, int t, uintptr_t c) {
    int op = 0;
    int rc = a->RedOpCreatePreMulSum(&op, &scalar, t, API_SCALAR_HOST, P(c));
    return (uint64_t)(uint32_t)rc << 32 | (uint32_t)op;
}
static int api_redop_destroy(struct api *a, int op, uintptr_t c) { return a->RedOpDestroy(op, P(c)); }
*/
import "C"

import "math"

// DataType is the type of a buffer's elements, ncclDataType_t.
type DataType int32

// The types.
const (
	Int8       DataType = 0
	Uint8      DataType = 1
	Int32      DataType = 2
	Uint32     DataType = 3
	Int64      DataType = 4
	Uint64     DataType = 5
	Float16    DataType = 6
	Float32    DataType = 7
	Float64    DataType = 8
	Bfloat16   DataType = 9 // NCCL 2.10
	Float8E4M3 DataType = 10
	Float8E5M2 DataType = 11
)

// Size is the bytes of one element.
func (t DataType) Size() int {
	switch t {
	case Int8, Uint8, Float8E4M3, Float8E5M2:
		return 1
	case Float16, Bfloat16:
		return 2
	case Int32, Uint32, Float32:
		return 4
	}
	return 8
}

// RedOp says how ranks' elements become one, ncclRedOp_t.
type RedOp int32

// The built-in ones; Avg is the sum divided by the number of ranks.
const (
	Sum  RedOp = 0
	Prod RedOp = 1
	Max  RedOp = 2
	Min  RedOp = 3
	Avg  RedOp = 4
)

// Stream is a cudaStream_t; 0 is CUDA's default stream. cuda.Stream converts to it.
type Stream uintptr

// The collectives take addresses in the device's memory (or pinned host memory); counts are elements. They put the work on the stream
// and come back; the buffers must stay until the stream has passed it. ErrInProgress means that it is still being put there:
// Await before the next call on the communicator. None of them allocates.

// AllReduce reduces count elements at in over the ranks into out on every rank; in may equal out.
func (c *Comm) AllReduce(in, out uintptr, count int, t DataType, op RedOp, s Stream) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.comm == 0 {
		return ErrClosed
	}
	return c.lib.check("ncclAllReduce", C.api_all_reduce(c.lib.api, C.uintptr_t(in), C.uintptr_t(out), C.size_t(count), C.int(t), C.int(op),
		c.comm, C.uintptr_t(s)))
}

// Broadcast copies count elements at root's in to every rank's out; in is read on root alone and may equal out.
func (c *Comm) Broadcast(in, out uintptr, count int, t DataType, root int, s Stream) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.comm == 0 {
		return ErrClosed
	}
	return c.lib.check("ncclBroadcast", C.api_broadcast(c.lib.api, C.uintptr_t(in), C.uintptr_t(out), C.size_t(count), C.int(t), C.int(root),
		c.comm, C.uintptr_t(s)))
}

// Reduce reduces count elements into root's out, which the other ranks' is not written.
func (c *Comm) Reduce(in, out uintptr, count int, t DataType, op RedOp, root int, s Stream) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.comm == 0 {
		return ErrClosed
	}
	return c.lib.check("ncclReduce", C.api_reduce(c.lib.api, C.uintptr_t(in), C.uintptr_t(out), C.size_t(count), C.int(t), C.int(op), C.int(root),
		c.comm, C.uintptr_t(s)))
}

// AllGather copies each rank's count elements at in to out, which holds Size x count, in rank order; in may be this rank's
// part of out.
func (c *Comm) AllGather(in, out uintptr, count int, t DataType, s Stream) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.comm == 0 {
		return ErrClosed
	}
	return c.lib.check("ncclAllGather", C.api_all_gather(c.lib.api, C.uintptr_t(in), C.uintptr_t(out), C.size_t(count), C.int(t), c.comm,
		C.uintptr_t(s)))
}

// ReduceScatter reduces Size x count elements at in; rank r gets the r-th count of them in out, which may be its part of in.
func (c *Comm) ReduceScatter(in, out uintptr, count int, t DataType, op RedOp, s Stream) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.comm == 0 {
		return ErrClosed
	}
	return c.lib.check("ncclReduceScatter", C.api_reduce_scatter(c.lib.api, C.uintptr_t(in), C.uintptr_t(out), C.size_t(count), C.int(t), C.int(op),
		c.comm, C.uintptr_t(s)))
}

// Send sends to peer, which calls Recv with the same count and type. Sends and receives that need each other belong into one group.
func (c *Comm) Send(in uintptr, count int, t DataType, peer int, s Stream) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.comm == 0 {
		return ErrClosed
	}
	return c.lib.check("ncclSend", C.api_send(c.lib.api, C.uintptr_t(in), C.size_t(count), C.int(t), C.int(peer), c.comm, C.uintptr_t(s)))
}

// Recv receives from peer.
func (c *Comm) Recv(out uintptr, count int, t DataType, peer int, s Stream) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.comm == 0 {
		return ErrClosed
	}
	return c.lib.check("ncclRecv", C.api_recv(c.lib.api, C.uintptr_t(out), C.size_t(count), C.int(t), C.int(peer), c.comm, C.uintptr_t(s)))
}

// NewPreMulSum makes an operator of this communicator that multiplies by scalar before it sums, for elements of type t (float32 or
// float64; float16 and bfloat16 by NewPreMulSumBits). DestroyRedOp frees it; calls issued before keep their meaning.
func (c *Comm) NewPreMulSum(scalar float64, t DataType) (RedOp, error) {
	if t == Float32 {
		return c.NewPreMulSumBits(uint64(math.Float32bits(float32(scalar))), t)
	}
	if t == Float64 {
		return c.NewPreMulSumBits(math.Float64bits(scalar), t)
	}
	panic("nccl: NewPreMulSum wants float32 or float64")
}

// NewPreMulSumBits is NewPreMulSum with the scalar's bits, lowest first, in type t.
func (c *Comm) NewPreMulSumBits(scalar uint64, t DataType) (RedOp, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.comm == 0 {
		return 0, ErrClosed
	}
	word := C.api_premul(c.lib.api, C.uint64_t(scalar), C.int(t), c.comm)
	return RedOp(uint32(word)), c.lib.check("ncclRedOpCreatePreMulSum", C.int(word>>32))
}

// DestroyRedOp frees an operator made by NewPreMulSum.
func (c *Comm) DestroyRedOp(op RedOp) error {
	return c.call("ncclRedOpDestroy", func(comm C.uintptr_t) C.int { return C.api_redop_destroy(c.lib.api, C.int(op), comm) })
}
