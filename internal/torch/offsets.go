package torch

// #include "shim.h"
import "C"

import (
	"slices"
	"unsafe"
)

// Offsets say where samples that lie back to back start: S+1 numbers, from 0 to the number of tokens. On a GPU it also holds what attention needs there, made once
// for all layers. It lives as long as the scope that made it.
type Offsets struct {
	starts []int32
	scope  *Scope
	device Tensor // starts; no tensor on the CPU
	pads   map[padKey]padding
}

// Offsets returns the offsets of samples; it borrows starts.
func (s *Scope) Offsets(starts []int32) *Offsets {
	o := &Offsets{starts: starts, scope: s}
	if Composed() {
		var out C.dt_tensor
		err := C.dt_stage(unsafe.Pointer(unsafe.SliceData(starts)), C.int64_t(len(starts)), C.int(Int32), &out)
		o.device = s.ownShim("offsets", out, err)
	}
	return o
}

// padKey is what a padding depends on beside its queries.
type padKey struct {
	keys                 *Offsets
	buckets, maxDistance int
	causal               bool
}

// padding is the plan by which samples of similar length are padded together; see composed.hpp.
type padding struct {
	plan             Tensor  // on the device
	lengths, samples []int64 // of each group
}

// padTo is what padded lengths are multiples of: kernels like it, and the allocator meets the same sizes again.
const padTo = 64

// padded returns the padding of queries with keys and a table of relative positions.
func (o *Offsets) padded(keys *Offsets, at Positioning) padding {
	key := padKey{keys, int(at.Table.Shape()[0]), at.MaxDistance, at.Causal}
	if p, ok := o.pads[key]; ok {
		return p
	}
	plan, lengths, samples := planPadding(o.starts, keys.starts, func(distance int) int64 {
		return int64(C.dt_relative_bucket(C.int64_t(distance), C.int64_t(key.buckets), C.int64_t(key.maxDistance), cBool(at.Causal)))
	})
	p := padding{o.scope.Input(plan), lengths, samples}
	if o.pads == nil {
		o.pads = map[padKey]padding{}
	}
	o.pads[key] = p
	return p
}

// planPadding groups samples by their length, rounded up to padTo times a power of two, and lists for each group what composed.hpp's padded reads: the rows of its slots
// among the keys and the queries, the samples' numbers of keys, and the buckets of its distances; then each query's slot among all groups'. A sample's
// queries are the last of its keys, and lie in their slots.
func planPadding(queries, keys []int32, bucket func(distance int) int64) (plan, lengths, samples []int64) {
	groups := map[int64][]int{}
	for i := range len(keys) - 1 {
		n := int64(padTo)
		for n < int64(keys[i+1]-keys[i]) {
			n *= 2
		}
		if queries[i+1] > queries[i] {
			groups[n] = append(groups[n], i)
		}
	}
	slotOf := make([]int64, queries[len(queries)-1])
	first := int64(0)
	var sizes []int64
	for n := range groups {
		sizes = append(sizes, n)
	}
	slices.Sort(sizes)
	for _, most := range sizes {
		members := groups[most]
		longest := 0
		for _, i := range members {
			longest = max(longest, int(keys[i+1]-keys[i]))
		}
		length := (longest + padTo - 1) / padTo * padTo
		keyRows, queryRows := make([]int64, length*len(members)), make([]int64, length*len(members))
		var counts, buckets []int64
		for m, i := range members {
			nk, nq := int(keys[i+1]-keys[i]), int(queries[i+1]-queries[i])
			for at := range nk {
				keyRows[m*length+at] = int64(keys[i]) + int64(at)
			}
			for at := range nq {
				slot := m*length + nk - nq + at
				queryRows[slot] = int64(queries[i]) + int64(at)
				slotOf[int(queries[i])+at] = first + int64(slot)
			}
			counts = append(counts, int64(nk))
		}
		for distance := 1 - length; distance < length; distance++ {
			buckets = append(buckets, bucket(distance))
		}
		plan = slices.Concat(plan, keyRows, queryRows, counts, buckets)
		lengths, samples = append(lengths, int64(length)), append(samples, int64(len(members)))
		first += int64(length * len(members))
	}
	return append(plan, slotOf...), lengths, samples
}
