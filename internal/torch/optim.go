package torch

// #include "shim.h"
import "C"

import (
	"fmt"
	"unsafe"
)

// AdamW are the settings of one call of [FusedAdamW] (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019).
type AdamW struct {
	LearningRate, Beta1, Beta2, Eps, WeightDecay float64
}

// FusedAdamW steps every parameter in place, in one pass over the four lists, which correspond. step is this step's number, from 1.
func FusedAdamW(params, grads, expAvgs, expAvgSqs []Tensor, step int64, a AdamW) error {
	if len(params) != len(grads) || len(params) != len(expAvgs) || len(params) != len(expAvgSqs) || step < 1 {
		panic(fmt.Sprintf("torch: AdamW of %d, %d, %d, %d tensors at step %d", len(params), len(grads), len(expAvgs), len(expAvgSqs), step))
	}
	if len(params) == 0 {
		return nil
	}
	return asError("adamw", C.dt_fused_adamw(list(params), list(grads), list(expAvgs), list(expAvgSqs), C.int(len(params)),
		C.int64_t(step), C.double(a.LearningRate), C.double(a.Beta1), C.double(a.Beta2), C.double(a.WeightDecay), C.double(a.Eps)))
}

// Judgement says what becomes of a step, on the device where its gradients are.
type Judgement struct {
	Verdict       Tensor // the 2-norm of all gradients, 1 where the step is left out, the streak, the first gradient that is not finite or -1, the steps done: Float64 [5]
	foundInf      Tensor // 1: AdamW changes nothing
	gradientScale Tensor // AdamW divides gradients by it; no tensor: by nothing
}

// Judge decides on a step with these gradients, and nothing waits for them. A step whose norm is not finite is left out; streak, a Float64 scalar, counts those in a row. Once
// it has come to limit (0: none) it stays and every step is left out. steps, a Float32 scalar, counts the others. A norm above maxNorm (0: none) is clipped to it
// by torch.nn.utils.clip_grad_norm_'s formula.
func (s *Scope) Judge(grads []Tensor, streak, steps Tensor, maxNorm float64, limit int) Judgement {
	var verdict, found, scale C.dt_tensor
	err := C.dt_judge(list(grads), C.int(len(grads)), streak.shim(), steps.shim(), C.double(maxNorm), C.int64_t(limit), &verdict, &found, &scale)
	j := Judgement{Verdict: s.ownShim("judge", verdict, err), foundInf: s.ownShim("judge", found, nil)}
	if scale != nil {
		j.gradientScale = s.ownShim("judge", scale, nil)
	}
	return j
}

// FusedAdamWJudged is [FusedAdamW] as j says: the parameters of a step that is left out keep their bits. steps is what [Scope.Judge] counts in. Gradients are clipped in place.
func FusedAdamWJudged(params, grads, expAvgs, expAvgSqs []Tensor, steps Tensor, j Judgement, a AdamW) error {
	if len(params) != len(grads) || len(params) != len(expAvgs) || len(params) != len(expAvgSqs) {
		panic(fmt.Sprintf("torch: AdamW of %d, %d, %d, %d tensors", len(params), len(grads), len(expAvgs), len(expAvgSqs)))
	}
	return asError("adamw", C.dt_fused_adamw_judged(list(params), list(grads), list(expAvgs), list(expAvgSqs), C.int(len(params)), steps.shim(), j.foundInf.shim(),
		j.gradientScale.shim(), C.double(a.LearningRate), C.double(a.Beta1), C.double(a.Beta2), C.double(a.WeightDecay), C.double(a.Eps)))
}

// SquareSums returns the sums of squares of consecutive segments of the Float32 vector flat, each in float64 and in a fixed order.
func SquareSums(flat Tensor, segment int64) ([]float64, error) {
	out := make([]float64, (flat.Numel()+segment-1)/segment)
	if len(out) == 0 {
		return nil, nil
	}
	err := C.dt_square_sums(flat.shim(), C.int64_t(segment), (*C.double)(unsafe.Pointer(&out[0])), C.int64_t(len(out)))
	return out, asError("square_sums", err)
}

// Scale multiplies every element of t by factor, in place.
func (t Tensor) Scale(factor float64) error {
	return asError("scale", C.dt_scale(t.shim(), C.double(factor)))
}

// Convert copies t's elements into to, between Float32 and BFloat16 or Float16, rounding to nearest, ties to even. It uses one thread.
func (t Tensor) Convert(to Tensor) error {
	return asError("convert", C.dt_convert(t.shim(), to.shim()))
}

// list views tensors as the C array that they are: a Tensor is one pointer.
func list(ts []Tensor) *C.dt_tensor { return (*C.dt_tensor)(unsafe.Pointer(unsafe.SliceData(ts))) }
