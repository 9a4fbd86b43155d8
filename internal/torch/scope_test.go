package torch

import (
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/sugarme/gotch/ts"
)

func TestMoveOutlivesTheScope(t *testing.T) {
	before := Live()
	var kept Tensor
	do(t, func(s *Scope) {
		s.Zeros(Float32, 3)
		kept = s.Move(s.FromFloat32s([]float32{1, 2, 3}, 3))
		s.Zeros(Float32, 3)
	})
	if Live() != before+1 {
		t.Errorf("%d tensors live, want one more than %d", Live(), before)
	}
	if kept.Float32s()[2] != 3 {
		t.Error("the moved tensor lost its memory")
	}
	kept.Free()
	Tensor{}.Free()
	if Live() != before {
		t.Errorf("%d tensors live, %d before", Live(), before)
	}
}

func TestMoveOfAForeignTensorPanics(t *testing.T) {
	before := Live()
	do(t, func(s *Scope) {
		x := s.Zeros(Float32, 1)
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			_ = Do(func(inner *Scope) error { inner.Move(x); return nil })
		}()
		x = s.Move(x)
		defer x.Free()
		defer func() {
			if recover() == nil {
				t.Error("Move twice: no panic")
			}
		}()
		s.Move(x)
	})
	if Live() != before {
		t.Errorf("%d tensors live, %d before", Live(), before)
	}
}

func TestSubKeepsOnlyItsResult(t *testing.T) {
	before := Live()
	do(t, func(s *Scope) {
		a := s.FromFloat32s([]float32{1, 2}, 2)
		sum := s.Sub(func(inner *Scope) Tensor {
			b := inner.Add(a, a)
			return inner.Add(b, inner.Sub(func(innermost *Scope) Tensor { return innermost.Add(b, a) }))
		})
		if Live() != before+2 {
			t.Errorf("%d tensors live, want two more than %d", Live(), before)
		}
		if sum.Float32s()[1] != 10 {
			t.Errorf("got %v", sum.Float32s())
		}
	})
	err := Do(func(s *Scope) error {
		s.Sub(func(inner *Scope) Tensor { return inner.Matmul(inner.Zeros(Float32, 2, 2), inner.Zeros(Float32, 3, 3)) })
		return nil
	})
	var failure *Error
	if !errors.As(err, &failure) || failure.Op != "matmul" {
		t.Errorf("got %v", err)
	}
	if Live() != before {
		t.Errorf("%d tensors live, %d before", Live(), before)
	}
}

func TestDoPassesErrorsAndPanicsOn(t *testing.T) {
	before := Live()
	own := errors.New("own")
	if err := Do(func(s *Scope) error { s.Zeros(Float32, 1); return own }); !errors.Is(err, own) {
		t.Errorf("got %v", err)
	}
	// A failure inside is an error there; the outer scope goes on.
	err := Do(func(outer *Scope) error {
		x := outer.Zeros(Float32, 2)
		err := Do(func(inner *Scope) error {
			inner.Matmul(inner.Zeros(Float32, 2, 2), inner.Zeros(Float32, 3, 3))
			return nil
		})
		if err == nil {
			t.Error("no error inside")
		}
		outer.Add(x, x)
		return err
	})
	var failure *Error
	if !errors.As(err, &failure) || failure.Op != "matmul" || strings.Contains(failure.Message, "Exception raised from") {
		t.Errorf("got %v", err)
	}
	func() {
		defer func() {
			if p := recover(); p != "mine" {
				t.Errorf("recovered %v", p)
			}
		}()
		_ = Do(func(s *Scope) error { s.Zeros(Float32, 1); panic("mine") })
		t.Error("the panic was swallowed")
	}()
	if Live() != before {
		t.Errorf("%d tensors live, %d before", Live(), before)
	}
}

func TestSetThreadsRefusesNone(t *testing.T) {
	for _, n := range []int{0, -1} {
		if err := Do(func(*Scope) error { SetThreads(n); return nil }); err == nil {
			t.Errorf("%d threads: no error", n)
		}
	}
}

// trainingStep uses every layer, forward and backward.
func trainingStep(s *Scope, table, w, scale, bias Tensor) {
	key := DropoutKey{Seed: 1}
	ids := s.FromInt64s([]int64{1, 2, 3, 4, 5, 6})
	x := s.EmbeddingSum(table, Tensor{}, Tensor{}, ids, Tensor{}, Tensor{}, -1)
	y := s.Sub(func(s *Scope) Tensor {
		z := s.Linear(s.Gelu(x, false), w, bias)
		return s.Dropout(s.Attention(z, z, z, s.Offsets([]int32{0, 2, 6}), s.Offsets([]int32{0, 2, 6}), 2, 1, 0.1, key), 0.1, key)
	})
	y = s.DropoutAddLayerNorm(y, x, scale, bias, 1e-5, 0.1, key)
	s.MulScalar(s.LinearCrossEntropy(y, table, Tensor{}, ids, 0), 0.5).Backward()
}

// Neither tensors nor the process grow over many steps.
func TestStepsLeaveNothing(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	const h = 256
	do(t, func(s *Scope) {
		var params []Tensor
		for _, dims := range [][]int64{{100, h}, {h, h}, {h}, {h}} {
			p := s.FromFloat32s(normal(random, 0.1, dims...), dims...)
			p.SetRequiresGrad(true)
			p.SetGrad(s.Zeros(Float32, dims...))
			params = append(params, p)
		}
		steps := func(n int) {
			for range n {
				do(t, func(s *Scope) { trainingStep(s, params[0], params[1], params[2], params[3]) })
			}
		}
		steps(100)
		live, resident := Live(), residentBytes(t)
		steps(100)
		if Live() != live {
			t.Errorf("%d tensors live after 100 steps, %d before", Live(), live)
		}
		// A leak of one activation a step would be 6 kB x 2000.
		steps(2000)
		if grown := residentBytes(t) - resident; grown > 8<<20 {
			t.Errorf("the process has grown by %d kB over 2,100 steps", grown>>10)
		} else {
			t.Logf("the process has grown by %d kB over 2,100 steps", grown>>10)
		}
	})
}

func residentBytes(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// BenchmarkOperation is the cost of one small operation: by a scope, and by gotch's own tensor.
func BenchmarkOperation(b *testing.B) {
	const batch = 100
	b.Run("scope", func(b *testing.B) {
		do(b, func(s *Scope) {
			x := s.Zeros(Float32, 16)
			for i := 0; i < b.N; i += batch {
				do(b, func(s *Scope) {
					for range batch {
						s.Add(x, x)
					}
				})
			}
		})
	})
	b.Run("gotch", func(b *testing.B) {
		x := ts.MustOfSlice(make([]float32, 16))
		defer x.MustDrop()
		for range b.N {
			y, err := x.Add(x, false)
			if err != nil {
				b.Fatal(err)
			}
			y.MustDrop()
		}
	})
}
