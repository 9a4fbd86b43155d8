package torch

import (
	"slices"
	"strings"
	"testing"
)

// segments chains two segments of two inputs each; the second input is used by both.
func segments(s *Scope, x, shared, w Tensor, checkpointed bool) Tensor {
	for range 2 {
		f := func(s *Scope, in []Tensor) []Tensor {
			return []Tensor{s.Tanh(s.Add(s.Linear(in[0], w, Tensor{}), in[1]))}
		}
		if checkpointed {
			x = s.Checkpoint([]Tensor{x, shared}, f)[0]
		} else {
			x = f(s, []Tensor{x, shared})[0]
		}
	}
	return x
}

// Gradients of inputs and parameters, also where an input takes none, are those without checkpointing; nothing stays behind.
func TestCheckpointGradients(t *testing.T) {
	before := Live()
	run := func(checkpointed, inputLearns bool) (grads [3][]float32) {
		err := Do(func(s *Scope) error {
			x := s.FromFloat32s([]float32{1, -2, 0.5, 3}, 2, 2)
			shared := s.FromFloat32s([]float32{0.1, 0.2, -0.3, 0.4}, 2, 2)
			w := s.FromFloat32s([]float32{0.5, -1, 0.25, 2}, 2, 2)
			ones := s.FromFloat32s([]float32{1, 1}, 2, 1)
			sum := s.FromFloat32s([]float32{1, 1}, 1, 2)
			var sinks [3]Tensor
			for i, p := range []Tensor{x, shared, w} {
				sinks[i] = s.Zeros(Float32, 2, 2)
				if i > 0 || inputLearns {
					p.SetRequiresGrad(true)
					p.SetGrad(sinks[i])
				}
			}
			s.Matmul(sum, s.Matmul(segments(s, x, shared, w, checkpointed), ones)).Backward()
			for i, g := range sinks {
				grads[i] = slices.Clone(g.Float32s())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return grads
	}
	for _, inputLearns := range []bool{true, false} {
		want, got := run(false, inputLearns), run(true, inputLearns)
		for i := range want {
			if !slices.Equal(got[i], want[i]) || i > 0 && slices.Max(got[i]) == 0 {
				t.Errorf("input learns %v: gradient %d is %v, want %v", inputLearns, i, got[i], want[i])
			}
		}
	}
	if now := Live(); now != before {
		t.Errorf("%d tensors are left", now-before)
	}
}

// What fails when it is computed again is an error of backward.
func TestCheckpointFails(t *testing.T) {
	times := 0
	err := Do(func(s *Scope) error {
		x := s.FromFloat32s([]float32{1, 2}, 1, 2)
		x.SetRequiresGrad(true)
		y := s.Checkpoint([]Tensor{x}, func(s *Scope, in []Tensor) []Tensor {
			if times++; times > 1 {
				return []Tensor{s.Add(in[0], s.Zeros(Float32, 3, 5))}
			}
			return []Tensor{s.Add(in[0], in[0])}
		})[0]
		s.Matmul(y, s.Zeros(Float32, 2, 1)).Backward()
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "size") || times != 2 {
		t.Errorf("error %v after %d times", err, times)
	}
}
