package torch

// #include "shim.h"
import "C"

import (
	"runtime/cgo"
	"unsafe"
)

// Buckets counts, during backward, how many parameters of each bucket still lack their gradient. The counting is in C++;
// Go is called once a bucket.
type Buckets struct {
	c      C.dt_buckets
	handle cgo.Handle
}

// NewBuckets watches params, of which params[i] is in bucket bucketOf[i]. ready is called during backward, possibly on a thread of
// autograd, when the last gradient of a bucket is complete; it must not block, panic or use a scope.
func NewBuckets(params []Tensor, bucketOf []int32, buckets int, ready func(bucket int)) (*Buckets, error) {
	if len(params) == 0 || len(params) != len(bucketOf) {
		panic("torch: one bucket a parameter, at least one parameter")
	}
	b := &Buckets{handle: cgo.NewHandle(ready)}
	err := C.dt_buckets_new(list(params), (*C.int)(unsafe.Pointer(&bucketOf[0])), C.int(len(params)), C.int(buckets),
		C.uintptr_t(b.handle), &b.c)
	if err != nil {
		b.handle.Delete()
		return nil, asError("buckets", err)
	}
	return b, nil
}

// Arm starts the counts anew, before the last backward pass of a step; Disarm makes gradients pass uncounted.
func (b *Buckets) Arm() { C.dt_buckets_arm(b.c, 1) }

// Disarm: see [Buckets.Arm].
func (b *Buckets) Disarm() { C.dt_buckets_arm(b.c, 0) }

// Late returns the parameter whose gradient came twice since [Buckets.Arm], or -1.
func (b *Buckets) Late() int { return int(C.dt_buckets_late(b.c)) }

// Close stops the watching; it may be called twice.
func (b *Buckets) Close() {
	if b.c != nil {
		C.dt_buckets_free(b.c)
		b.handle.Delete()
		b.c = nil
	}
}

//export ddprunBucketReady
func ddprunBucketReady(handle C.uintptr_t, bucket C.int) {
	cgo.Handle(handle).Value().(func(int))(int(bucket))
}
