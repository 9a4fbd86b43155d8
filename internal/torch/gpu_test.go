package torch

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// useGPU makes the first GPU the place of models' tensors until the test ends; without one the test skips.
func useGPU(t *testing.T) {
	t.Helper()
	if _, err := OpenCUDA(); err != nil {
		t.Skip(err)
	}
	runtime.LockOSThread()
	if err := UseCUDA(0); err != nil {
		t.Fatal(err)
	}
	onGPU = true
	t.Cleanup(func() {
		onGPU = false
		UseCPU()
		runtime.UnlockOSThread()
	})
}

var onGPU bool // models' tensors live on a GPU

// layerTests are the tests of the layers against their references in float64.
var layerTests = map[string]func(*testing.T){
	"linear": TestLinearGradients, "gelu and linear": TestGeluLinearGradients, "embeddings": TestEmbeddingSumGradients, "dropout": TestDropoutGradients,
	"layer norm": TestDropoutAddLayerNormGradients, "attention": TestAttentionGradients, "cross-entropy": TestLinearCrossEntropyGradients,
	"rms norm": TestDropoutAddRMSNormGradients, "activation": TestDropoutActivationGradients, "attention with positions": TestPositionedAttentionGradients,
}

// The composed layers, on the CPU.
func TestComposedLayers(t *testing.T) {
	Pretend(true)
	defer Pretend(false)
	for name, test := range layerTests {
		t.Run(name, test)
	}
}

// The composed layers, on a GPU: libtorch's kernels, with dropout.
func TestGPULayers(t *testing.T) {
	useGPU(t)
	for name, test := range layerTests {
		t.Run(name, test)
	}
}

// In bfloat16 attention comes near to float32's, and its dropout repeats: flash attention, and the padded one where there is a table.
func TestGPUAttentionBF16(t *testing.T) {
	useGPU(t)
	a := newAttentionCase(rand.New(rand.NewPCG(9, 1)), []int32{1, 0, 70, 130}, []int32{3, 5, 70, 140})
	do(t, func(s *Scope) {
		for _, table := range []Tensor{{}, placed(s, normal(rand.New(rand.NewPCG(9, 2)), 1, 8, attentionHeads), 8, attentionHeads)} {
			for _, causal := range []bool{false, true} {
				run := func(bf16 bool, p float64, step uint32) []float32 {
					q, k, v := placed(s, a.q.values, a.q.dims...), placed(s, a.k.values, a.k.dims...), placed(s, a.v.values, a.v.dims...)
					if bf16 {
						q, k, v = s.bfloat16(q), s.bfloat16(k), s.bfloat16(v)
					}
					return read(s.PositionedAttention(q, k, v, s.Offsets(a.queries), s.Offsets(a.keys), attentionHeads, 0.25, Positioning{Causal: causal, Table: table, MaxDistance: 20}, p,
						DropoutKey{Seed: 1, Step: step}))
				}
				exact, short := run(false, 0, 0), run(true, 0, 0)
				for i, x := range exact {
					if d := x - short[i]; d > 0.05 || d < -0.05 || d != d {
						t.Fatalf("table %v, causal %v: element %d is %v in bfloat16, %v in float32", table.Defined(), causal, i, short[i], x)
					}
				}
				for _, bf16 := range []bool{false, true} {
					once, again, other := run(bf16, 0.3, 1), run(bf16, 0.3, 1), run(bf16, 0.3, 2)
					if !slices.Equal(once, again) || slices.Equal(once, other) {
						t.Errorf("table %v, causal %v, bf16 %v: the same key drops the same: %v, another one too: %v", table.Defined(), causal, bf16, slices.Equal(once, again), slices.Equal(once, other))
					}
				}
			}
		}
	})
}

func (s *Scope) bfloat16(t Tensor) Tensor {
	out := s.DeviceZeros(BFloat16, t.Shape()...)
	if err := t.Convert(out); err != nil {
		panic(err)
	}
	return out
}

// Inputs come as they were given though their memory changes at once, and libtorch's own check of waiting finds the calls that wait, and none in staging and fetching.
func TestGPUCopies(t *testing.T) {
	useGPU(t)
	do(t, func(s *Scope) {
		v := make([]int64, 1<<16)
		var staged []Tensor
		var fetches []*Fetch
		if err := ForbidWaits(true); err != nil {
			t.Fatal(err)
		}
		for step := range 20 {
			for i := range v {
				v[i] = int64(step + i)
			}
			staged = append(staged, s.Inputs(v[:100], v[100:])...)
			fetches = append(fetches, NewFetch(s.Numbers(staged[len(staged)-1])))
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a call that waits is not found")
				}
			}()
			s.View(staged[0], 0).Value()
		}()
		if err := ForbidWaits(false); err != nil {
			t.Fatal(err)
		}
		for step, f := range fetches {
			got, err := f.Wait()
			if err != nil || len(got) != len(v)-100 || got[0] != float64(step+100) || got[len(got)-1] != float64(step+len(v)-1) {
				t.Errorf("step %d: %d numbers from %v, %v", step, len(got), got[0], err)
			}
		}
	})
}
