package torch

// #include "shim.h"
import "C"

import "unsafe"

// The layers of the shim. Their backward passes add parameters' gradients to .grad in place, and draw dropout again from its
// key instead of keeping masks. Legend: N tokens, H hidden, M labelled tokens, V vocabulary, S samples.

// DropoutKey names one draw of dropout: Philox4x32-10 under Seed, with (column block, row, Step, Lane and Site) as counter.
// The same key drops the same elements on any rank.
type DropoutKey struct {
	Seed uint64
	Step uint32
	Lane uint16
	Site uint16 // which dropout of the model
}

func (k DropoutKey) c() C.dt_key {
	return C.dt_key{seed: C.uint64_t(k.Seed), step: C.uint32_t(k.Step), lane: C.uint32_t(k.Lane), site: C.uint32_t(k.Site)}
}

// Linear returns x w^T + b for x [N, in], w [out, in] and b [out] or no tensor.
func (s *Scope) Linear(x, w, b Tensor) Tensor {
	var out C.dt_tensor
	err := C.dt_linear(x.shim(), w.shim(), b.shim(), &out)
	return s.ownShim("linear", out, err)
}

// GeluLinear returns Linear(Gelu(x, tanh), w, b). Backward computes the activation again, so only x is kept.
func (s *Scope) GeluLinear(x, w, b Tensor, tanh bool) Tensor {
	var out C.dt_tensor
	err := C.dt_gelu_linear(x.shim(), w.shim(), b.shim(), cBool(tanh), &out)
	return s.ownShim("gelu_linear", out, err)
}

// EmbeddingSum returns words[ids] + positions[positionIDs] + types[typeIDs] as [N, H]; positions and types may be no tensor.
// The row paddingID of words (-1: none) gets no gradient from here, as with nn.Embedding's padding_idx.
func (s *Scope) EmbeddingSum(words, positions, types, ids, positionIDs, typeIDs Tensor, paddingID int64) Tensor {
	var out C.dt_tensor
	err := C.dt_embedding_sum(words.shim(), positions.shim(), types.shim(), ids.shim(), positionIDs.shim(), typeIDs.shim(), C.int64_t(paddingID), &out)
	return s.ownShim("embedding", out, err)
}

// Dropout drops elements of x [N, H] with probability p and scales the rest by 1/(1-p).
func (s *Scope) Dropout(x Tensor, p float64, key DropoutKey) Tensor {
	var out C.dt_tensor
	err := C.dt_dropout(x.shim(), C.double(p), key.c(), &out)
	return s.ownShim("dropout", out, err)
}

// DropoutAddLayerNorm returns LayerNorm(residual + dropout(x)) over the last dimension of x [N, H]; residual may be no tensor.
func (s *Scope) DropoutAddLayerNorm(x, residual, w, b Tensor, eps, p float64, key DropoutKey) Tensor {
	var out C.dt_tensor
	err := C.dt_dropout_add_layer_norm(x.shim(), residual.shim(), w.shim(), b.shim(), C.double(eps), C.double(p), key.c(), &out)
	return s.ownShim("layer_norm", out, err)
}

// DropoutAddRMSNorm returns sum = residual + dropout(x) and its RMS norm (Zhang and Sennrich, 2019) with the weights w [H], both [N, H];
// residual may be no tensor.
func (s *Scope) DropoutAddRMSNorm(x, residual, w Tensor, eps, p float64, key DropoutKey) (sum, normed Tensor) {
	var c, out C.dt_tensor
	err := C.dt_dropout_add_rms_norm(x.shim(), residual.shim(), w.shim(), C.double(eps), C.double(p), key.c(), &c, &out)
	return s.ownShim("rms_norm", c, err), s.ownShim("rms_norm", out, nil)
}

// Activation is an elementwise function.
type Activation int

// The activations of DropoutActivation; GeluTanh is what Hugging Face calls gelu_new.
const (
	Relu Activation = iota
	Gelu
	GeluTanh
	Silu
)

// DropoutActivation returns dropout(activation(x) gate) for x and gate [N, I]; gate may be no tensor (Shazeer, "GLU Variants", 2020).
func (s *Scope) DropoutActivation(x, gate Tensor, activation Activation, p float64, key DropoutKey) Tensor {
	var out C.dt_tensor
	err := C.dt_dropout_activation(x.shim(), gate.shim(), C.int(activation), C.double(p), key.c(), &out)
	return s.ownShim("activation", out, err)
}

// Attention returns softmax(scale q k^T) v a sample and head, with dropout p on the probabilities, as [Q, H]. q is [Q, H], k and v are
// [K, H], heads side by side. Samples lie back to back: queries and keys (S+1 each, from 0 to Q and K) say where they start. Where
// every token asks, both are the same.
func (s *Scope) Attention(q, k, v Tensor, queries, keys *Offsets, heads int, scale, p float64, key DropoutKey) Tensor {
	return s.PositionedAttention(q, k, v, queries, keys, heads, scale, Positioning{}, p, key)
}

// Positioning is what an attention knows of its tokens' order. A sample's queries are the last of its keys.
type Positioning struct {
	Causal bool // a query sees itself and the keys before it
	// Table [buckets, heads], or no tensor, is added to the scores by the key's place less the query's (T5 2.1): half of the buckets for
	// keys that follow, or all for those before where Causal; all distances from MaxDistance on share one.
	Table       Tensor
	MaxDistance int
}

// PositionedAttention is Attention with the order of tokens in it.
func (s *Scope) PositionedAttention(q, k, v Tensor, queries, keys *Offsets, heads int, scale float64, at Positioning, p float64, key DropoutKey) Tensor {
	if len(queries.starts) == 0 || len(queries.starts) != len(keys.starts) {
		panic(&Error{Op: "attention", Message: "offsets of queries and keys must be of one length, at least 1"})
	}
	causal := cBool(at.Causal)
	q0, k0 := (*C.int32_t)(unsafe.Pointer(&queries.starts[0])), (*C.int32_t)(unsafe.Pointer(&keys.starts[0]))
	samples := C.int(len(keys.starts) - 1)
	var out C.dt_tensor
	if !Composed() {
		err := C.dt_attention(q.shim(), k.shim(), v.shim(), q0, k0, samples, C.int(heads), C.double(scale), at.Table.shim(), C.int64_t(at.MaxDistance), causal,
			C.double(p), key.c(), &out)
		return s.ownShim("attention", out, err)
	}
	var pad padding
	if at.Table.Defined() {
		pad = queries.padded(keys, at)
	}
	err := C.dt_composed_attention(q.shim(), k.shim(), v.shim(), q0, k0, samples, C.int(heads), C.double(scale), at.Table.shim(), causal, C.double(p), key.c(),
		queries.device.shim(), keys.device.shim(), pad.plan.shim(), (*C.int64_t)(unsafe.Pointer(unsafe.SliceData(pad.lengths))),
		(*C.int64_t)(unsafe.Pointer(unsafe.SliceData(pad.samples))), C.int(len(pad.lengths)), &out)
	return s.ownShim("attention", out, err)
}

// relativeBucket is the row of Positioning.Table for a key that lies distance tokens after its query; for tests against transformers.
func relativeBucket(distance, buckets, maxDistance int, causal bool) int {
	flag := C.int(0)
	if causal {
		flag = 1
	}
	return int(C.dt_relative_bucket(C.int64_t(distance), C.int64_t(buckets), C.int64_t(maxDistance), flag))
}

// LinearCrossEntropy returns the sum over M of the cross-entropy of x w^T + b against labels, for x [M, H], w [V, H], b [V] or no
// tensor, labels [M] Int64. Of a target, the share smoothing is spread over all V (Szegedy et al., "Rethinking the Inception Architecture", 2016);
// 0: none. The logits exist once, in a buffer that becomes their gradient.
func (s *Scope) LinearCrossEntropy(x, w, b, labels Tensor, smoothing float64) Tensor {
	var out C.dt_tensor
	err := C.dt_linear_cross_entropy(x.shim(), w.shim(), b.shim(), labels.shim(), C.double(smoothing), &out)
	return s.ownShim("linear_cross_entropy", out, err)
}

// philoxBlock is one block of the generator behind dropout, for tests against published answers.
func philoxBlock(seed uint64, c [4]uint32) (out [4]uint32) {
	C.dt_philox_block(C.uint64_t(seed), C.uint32_t(c[0]), C.uint32_t(c[1]), C.uint32_t(c[2]), C.uint32_t(c[3]), (*C.uint32_t)(unsafe.Pointer(&out[0])))
	return out
}
