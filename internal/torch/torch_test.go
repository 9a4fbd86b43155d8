package torch

import (
	"math"
	"strings"
	"testing"
)

func do(t testing.TB, f func(s *Scope)) {
	t.Helper()
	if err := Do(func(s *Scope) error { f(s); return nil }); err != nil {
		t.Fatal(err)
	}
}

func TestDoTurnsFailuresIntoErrors(t *testing.T) {
	before := Live()
	err := Do(func(s *Scope) error {
		a, b := s.Zeros(Float32, 2, 3), s.Zeros(Float32, 4, 5)
		s.Matmul(a, b)
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "matmul") || !strings.Contains(err.Error(), "shapes cannot be multiplied") {
		t.Fatalf("got %v", err)
	}
	if Live() != before {
		t.Fatalf("%d tensors live, %d before", Live(), before)
	}
}

func TestShimRefusesBadShapes(t *testing.T) {
	cases := map[string]func(s *Scope){
		"linear": func(s *Scope) { s.Linear(s.Zeros(Float32, 2, 3), s.Zeros(Float32, 4, 5), Tensor{}) },
		"embedding": func(s *Scope) {
			s.EmbeddingSum(s.Zeros(Float32, 4, 2), Tensor{}, Tensor{}, s.FromInt64s([]int64{4}), Tensor{}, Tensor{}, -1)
		},
		"attention": func(s *Scope) {
			x := s.Zeros(Float32, 4, 6)
			s.Attention(x, x, x, s.Offsets([]int32{0, 3}), s.Offsets([]int32{0, 3}), 2, 1, 0, DropoutKey{})
		},
		"attention heads": func(s *Scope) {
			x := s.Zeros(Float32, 4, 6)
			s.Attention(x, x, x, s.Offsets([]int32{0, 4}), s.Offsets([]int32{0, 4}), 4, 1, 0, DropoutKey{})
		},
		"layer_norm": func(s *Scope) {
			s.DropoutAddLayerNorm(s.Zeros(Float32, 4, 6), Tensor{}, s.Zeros(Float32, 5), s.Zeros(Float32, 5), 1e-5, 0, DropoutKey{})
		},
		"linear_cross_entropy": func(s *Scope) {
			s.LinearCrossEntropy(s.Zeros(Float32, 1, 2), s.Zeros(Float32, 3, 2), Tensor{}, s.FromInt64s([]int64{3}), 0)
		},
		"view": func(s *Scope) { s.View(s.Zeros(Float32, 4), 2, 3) },
	}
	for name, f := range cases {
		if err := Do(func(s *Scope) error { f(s); return nil }); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The known answers of Random123's kat_vectors for philox4x32-10.
func TestPhiloxKnownAnswers(t *testing.T) {
	cases := []struct {
		seed uint64
		c    [4]uint32
		want [4]uint32
	}{
		{0, [4]uint32{0, 0, 0, 0}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{0x299f31d0a4093822, [4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	}
	for _, c := range cases {
		if got := philoxBlock(c.seed, c.c); got != c.want {
			t.Errorf("philox(%x, %x) = %x, want %x", c.seed, c.c, got, c.want)
		}
	}
}

func TestDropoutIsAFunctionOfItsKey(t *testing.T) {
	do(t, func(s *Scope) {
		const rows, cols, p = 200, 130, 0.1
		x := s.Zeros(Float32, rows, cols)
		for i := range x.Float32s() {
			x.Float32s()[i] = 1
		}
		key := DropoutKey{Seed: 7, Step: 3, Lane: 1, Site: 2}
		a, b := s.Dropout(x, p, key), s.Dropout(x, p, key)
		dropped := 0
		for i, v := range a.Float32s() {
			if v != b.Float32s()[i] {
				t.Fatal("the same key dropped other elements")
			}
			if v == 0 {
				dropped++
			} else if math.Abs(float64(v)-1/(1-p)) > 1e-6 {
				t.Fatalf("kept element is %v", v)
			}
		}
		share := float64(dropped) / (rows * cols)
		if sd := math.Sqrt(p * (1 - p) / (rows * cols)); math.Abs(share-p) > 5*sd {
			t.Fatalf("dropped %v of the elements", share)
		}
		for _, other := range []DropoutKey{{8, 3, 1, 2}, {7, 4, 1, 2}, {7, 3, 2, 2}, {7, 3, 1, 3}} {
			same := 0
			for i, v := range s.Dropout(x, p, other).Float32s() {
				if (v == 0) == (a.Float32s()[i] == 0) {
					same++
				}
			}
			if got, want := float64(same)/(rows*cols), p*p+(1-p)*(1-p); math.Abs(got-want) > 0.02 {
				t.Errorf("key %+v agrees with %+v in %v of the elements, independent ones in %v", other, key, got, want)
			}
		}
	})
}
