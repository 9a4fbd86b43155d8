package torch

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestLinearGradients(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	const n, from, to = 37, 19, 23
	inputs := []input{{"x", []int64{n, from}, normal(random, 1, n, from)}, {"w", []int64{to, from}, normal(random, 0.3, to, from)}, {"b", []int64{to}, normal(random, 1, to)}}
	for _, bias := range []bool{true, false} {
		c := layerCase{inputs: inputs[:2], threadsShow: true,
			apply: func(s *Scope, in []Tensor) Tensor { return s.Linear(in[0], in[1], append(in, Tensor{})[2]) },
			reference: func(in [][]float64) []float64 {
				return refLinear(matrixOf(in[0], from), matrixOf(in[1], from), append(in, nil)[2]).flat()
			}}
		if bias {
			c.inputs = inputs
		}
		t.Run(fmt.Sprint("bias ", bias), c.check)
	}
}

func TestGeluLinearGradients(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const n, from, to = 37, 19, 23
	inputs := []input{{"x", []int64{n, from}, normal(random, 1, n, from)}, {"w", []int64{to, from}, normal(random, 0.3, to, from)}, {"b", []int64{to}, normal(random, 1, to)}}
	for _, tanh := range []bool{false, true} {
		gelu := func(x float64) float64 { return x * 0.5 * math.Erfc(-x/math.Sqrt2) }
		if tanh {
			gelu = func(x float64) float64 { return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x))) }
		}
		c := layerCase{inputs: inputs, threadsShow: true,
			apply: func(s *Scope, in []Tensor) Tensor { return s.GeluLinear(in[0], in[1], in[2], tanh) },
			reference: func(in [][]float64) []float64 {
				activated := make([]float64, len(in[0]))
				for i, x := range in[0] {
					activated[i] = gelu(x)
				}
				return refLinear(matrixOf(activated, from), matrixOf(in[1], from), in[2]).flat()
			}}
		t.Run(fmt.Sprint("tanh ", tanh), c.check)
	}
}

func TestEmbeddingSumGradients(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 1))
	const n, h, padding = 150, 70, 3
	rows := []int{11, 40, 2}
	ids := make([][]int64, 3)
	for k := range ids {
		for range n {
			ids[k] = append(ids[k], random.Int64N(int64(rows[k]))) // repeated, so that sums meet
		}
	}
	var noGrad []int
	for k := range h {
		noGrad = append(noGrad, padding*h+k)
	}
	for tables := 1; tables <= 3; tables++ {
		var inputs []input
		for k := range tables {
			inputs = append(inputs, input{[]string{"words", "positions", "types"}[k], []int64{int64(rows[k]), h}, normal(random, 1, int64(rows[k]), h)})
		}
		c := layerCase{inputs: inputs, noGrad: noGrad,
			apply: func(s *Scope, in []Tensor) Tensor {
				var table, id [3]Tensor
				for k := range in {
					table[k], id[k] = in[k], s.Input(ids[k])
				}
				return s.EmbeddingSum(table[0], table[1], table[2], id[0], id[1], id[2], padding)
			},
			reference: func(in [][]float64) []float64 {
				out := newMatrix(n, h)
				for k := range in {
					table := matrixOf(in[k], h)
					for i, id := range ids[k] {
						for c, v := range table[id] {
							out[i][c] += v
						}
					}
				}
				return out.flat()
			}}
		t.Run(fmt.Sprint(tables, " tables"), c.check)
	}
}

// multipliers are dropout's factors of [rows, cols] elements under key, found by dropping ones.
func multipliers(t *testing.T, rows, cols int, p float64, key DropoutKey) matrix {
	t.Helper()
	m := newMatrix(rows, cols)
	do(t, func(s *Scope) {
		ones := make([]float32, rows*cols)
		for i := range ones {
			ones[i] = 1
		}
		x := placed(s, ones, int64(rows), int64(cols))
		for i, v := range read(s.Dropout(x, p, key)) {
			m[i/cols][i%cols] = float64(v)
		}
	})
	return m
}

func TestDropoutGradients(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 1))
	key := DropoutKey{Seed: 1<<40 + 5, Step: 9, Lane: 3, Site: 4}
	for _, h := range []int64{1, 64, 130} {
		const n, p = 70, 0.25
		mult := multipliers(t, n, int(h), p, key)
		c := layerCase{inputs: []input{{"x", []int64{n, h}, normal(random, 1, n, h)}},
			apply: func(s *Scope, in []Tensor) Tensor { return s.Dropout(in[0], p, key) },
			reference: func(in [][]float64) []float64 {
				out := slices.Clone(in[0])
				for i, m := range mult.flat() {
					out[i] *= m
				}
				return out
			}}
		t.Run(fmt.Sprint("width ", h), c.check)
	}
}

func TestDropoutAddLayerNormGradients(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 1))
	const eps = 1e-5
	key := DropoutKey{Seed: 3, Step: 2, Lane: 1, Site: 7}
	for _, p := range []float64{0, 0.1} {
		for _, residual := range []bool{true, false} {
			for _, h := range []int64{7, 64, 130} { // below, at and above the tiles of 16 and 64
				const n = 75 // segments of 32 rows, the last one partial
				var mult matrix
				if p > 0 {
					mult = multipliers(t, n, int(h), p, key)
				}
				c := layerCase{inputs: []input{{"x", []int64{n, h}, normal(random, 1, n, h)}, {"w", []int64{h}, normal(random, 1, h)},
					{"b", []int64{h}, normal(random, 1, h)}, {"residual", []int64{n, h}, normal(random, 1, n, h)}},
					apply: func(s *Scope, in []Tensor) Tensor {
						return s.DropoutAddLayerNorm(in[0], append(in, Tensor{})[3], in[1], in[2], eps, p, key)
					},
					reference: func(in [][]float64) []float64 {
						var res matrix
						if len(in) > 3 {
							res = matrixOf(in[3], int(h))
						}
						return refNorm(matrixOf(in[0], int(h)), res, mult, in[1], in[2], eps).flat()
					}}
				if !residual {
					c.inputs = c.inputs[:3]
				}
				t.Run(fmt.Sprintf("p %v, residual %v, width %d", p, residual, h), c.check)
			}
		}
	}
}

// attentionCase are the arguments of one attention: random queries and keys of width 16 in two heads.
type attentionCase struct {
	q, k, v       input
	queries, keys []int32
}

const attentionHeads, attentionWidth = 2, 16

// newAttentionCase makes samples of the given numbers of queries and keys.
func newAttentionCase(random *rand.Rand, queries, keys []int32) attentionCase {
	c := attentionCase{queries: []int32{0}, keys: []int32{0}}
	for i := range queries {
		c.queries = append(c.queries, c.queries[i]+queries[i])
		c.keys = append(c.keys, c.keys[i]+keys[i])
	}
	make := func(name string, n int32) input {
		return input{name, []int64{int64(n), attentionWidth}, normal(random, 0.7, int64(n), attentionWidth)}
	}
	c.q, c.k, c.v = make("q", c.queries[len(queries)]), make("k", c.keys[len(keys)]), make("v", c.keys[len(keys)])
	return c
}

func (c *attentionCase) longest() int {
	longest := 0
	for i := range len(c.keys) - 1 {
		longest = max(longest, int(c.keys[i+1]-c.keys[i]))
	}
	return longest
}

// factors finds dropout's factors by the forward pass alone: with values that are 1 at one key of the sample, the result is that
// key's dropped probability, to be compared with the one without dropout.
func (c *attentionCase) factors(t *testing.T, scale, p float64, key DropoutKey) func(query, head, key int) float64 {
	t.Helper()
	const d = attentionWidth / attentionHeads
	longest := c.longest()
	factors := make([]float64, int(c.q.dims[0])*attentionHeads*longest)
	kept := 1 / (1 - p)
	do(t, func(s *Scope) {
		q, k := placed(s, c.q.values, c.q.dims...), placed(s, c.k.values, c.k.dims...)
		for first := 0; first < longest; first += d {
			values := make([]float32, len(c.v.values))
			for i := range len(c.keys) - 1 {
				for j := first; j < min(first+d, int(c.keys[i+1]-c.keys[i])); j++ {
					for head := range attentionHeads {
						values[(int(c.keys[i])+j)*attentionWidth+head*d+j-first] = 1
					}
				}
			}
			v := placed(s, values, c.v.dims...)
			plain := read(s.Attention(q, k, v, s.Offsets(c.queries), s.Offsets(c.keys), attentionHeads, scale, 0, key))
			dropped := read(s.Attention(q, k, v, s.Offsets(c.queries), s.Offsets(c.keys), attentionHeads, scale, p, key))
			for i, x := range plain {
				if x == 0 {
					continue // no such key in the sample
				}
				ratio := float64(dropped[i] / x)
				if ratio != 0 && math.Abs(ratio-kept) > 1e-4 {
					t.Fatalf("a probability of %v becomes %v under dropout %v", x, dropped[i], p)
				}
				query, head, j := i/attentionWidth, i%attentionWidth/d, first+i%d
				if ratio != 0 {
					factors[(query*attentionHeads+head)*longest+j] = kept
				}
			}
		}
	})
	return func(query, head, key int) float64 { return factors[(query*attentionHeads+head)*longest+key] }
}

func TestAttentionGradients(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 1))
	key := DropoutKey{Seed: 11, Step: 1, Lane: 0, Site: 3}
	scale := math.Sqrt(attentionHeads) / math.Sqrt(attentionWidth)
	for _, p := range []float64{0, 0.2} {
		for _, lengths := range []struct{ queries, keys []int32 }{
			{[]int32{1}, []int32{1}},
			{[]int32{3, 1, 0, 2}, []int32{3, 1, 0, 2}},
			{[]int32{1, 65, 129}, []int32{1, 65, 129}},
			{[]int32{300}, []int32{300}},
			{[]int32{2, 0, 130, 1}, []int32{70, 5, 3, 1}}, // queries and keys that differ, and a sample that nothing asks
		} {
			a := newAttentionCase(random, lengths.queries, lengths.keys)
			var mult func(query, head, key int) float64
			if p > 0 {
				mult = a.factors(t, scale, p, key)
			}
			c := layerCase{inputs: []input{a.q, a.k, a.v},
				apply: func(s *Scope, in []Tensor) Tensor {
					return s.Attention(in[0], in[1], in[2], s.Offsets(a.queries), s.Offsets(a.keys), attentionHeads, scale, p, key)
				},
				reference: func(in [][]float64) []float64 {
					return refAttention(matrixOf(in[0], attentionWidth), matrixOf(in[1], attentionWidth), matrixOf(in[2], attentionWidth),
						a.queries, a.keys, attentionHeads, scale, mult).flat()
				}}
			t.Run(fmt.Sprintf("p %v, queries %d, keys %d", p, lengths.queries, lengths.keys), c.check)
		}
	}
}

// The share of dropped probabilities is p, and heads drop others.
func TestAttentionDropsTheShare(t *testing.T) {
	const length, p = 65, 0.3
	a := newAttentionCase(rand.New(rand.NewPCG(6, 1)), []int32{length, length}, []int32{length, length})
	mult := a.factors(t, 0.1, p, DropoutKey{Seed: 1})
	dropped, alike := 0, 0
	for i := range 2 * length {
		for j := range length {
			for head := range attentionHeads {
				if mult(i, head, j) == 0 {
					dropped++
				}
			}
			if (mult(i, 0, j) == 0) == (mult(i, 1, j) == 0) {
				alike++
			}
		}
	}
	const n = 2 * length * length
	if share := float64(dropped) / (attentionHeads * n); math.Abs(share-p) > 5*math.Sqrt(p*(1-p)/(attentionHeads*n)) {
		t.Errorf("%v of the probabilities are dropped, want %v", share, p)
	}
	if share, want := float64(alike)/n, p*p+(1-p)*(1-p); math.Abs(share-want) > 0.03 {
		t.Errorf("two heads agree in %v of the probabilities, independent ones in %v", share, want)
	}
}

func TestLinearCrossEntropyGradients(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 1))
	const m, h, v = 29, 24, 101
	labels := make([]int64, m)
	for i := range labels {
		labels[i] = random.Int64N(v)
	}
	inputs := []input{{"x", []int64{m, h}, normal(random, 1, m, h)}, {"w", []int64{v, h}, normal(random, 0.5, v, h)}, {"b", []int64{v}, normal(random, 1, v)}}
	for _, smoothing := range []float64{0, 0.1} {
		for _, bias := range []bool{true, false} {
			c := layerCase{inputs: inputs[:2], threadsShow: true,
				apply: func(s *Scope, in []Tensor) Tensor {
					return s.LinearCrossEntropy(in[0], in[1], append(in, Tensor{})[2], s.Input(labels), smoothing)
				},
				reference: func(in [][]float64) []float64 {
					return []float64{refCrossEntropy(refLinear(matrixOf(in[0], h), matrixOf(in[1], h), append(in, nil)[2]), labels, smoothing)}
				}}
			if bias {
				c.inputs = inputs
			}
			t.Run(fmt.Sprint("bias ", bias, ", smoothing ", smoothing), c.check)
		}
	}
}

// What is not a number, or infinite, does not get lost: a step that has gone wrong must be seen.
func TestNonFinitePropagates(t *testing.T) {
	random := rand.New(rand.NewPCG(8, 1))
	const n, h = 70, 64
	w, b := input{"w", []int64{h}, normal(random, 1, h)}, input{"b", []int64{h}, normal(random, 1, h)}
	square := input{"w", []int64{h, h}, normal(random, 0.1, h, h)}
	layers := map[string]func(s *Scope, x Tensor) Tensor{
		"linear":  func(s *Scope, x Tensor) Tensor { return s.Linear(x, s.FromFloat32s(square.values, h, h), Tensor{}) },
		"dropout": func(s *Scope, x Tensor) Tensor { return s.Dropout(x, 0.1, DropoutKey{}) },
		"layer norm": func(s *Scope, x Tensor) Tensor {
			return s.DropoutAddLayerNorm(x, x, s.FromFloat32s(w.values, h), s.FromFloat32s(b.values, h), 1e-5, 0.1, DropoutKey{})
		},
		"attention": func(s *Scope, x Tensor) Tensor {
			return s.Attention(x, x, x, s.Offsets([]int32{0, n}), s.Offsets([]int32{0, n}), 2, 1, 0.1, DropoutKey{})
		},
		"cross-entropy": func(s *Scope, x Tensor) Tensor {
			return s.LinearCrossEntropy(x, s.FromFloat32s(square.values, h, h), Tensor{}, s.FromInt64s(make([]int64, n)), 0)
		},
	}
	for name, layer := range layers {
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			do(t, func(s *Scope) {
				values := normal(random, 1, n, h)
				values[33*h+5] = float32(bad)
				x := s.FromFloat32s(values, n, h)
				g := s.Zeros(Float32, n, h)
				x.SetRequiresGrad(true)
				x.SetGrad(g)
				y := layer(s, x)
				if !hasNonFinite(y.Float32s()) {
					t.Errorf("%s of %v is finite", name, bad)
				}
				weights := make([]float32, y.Numel())
				for i := range weights {
					weights[i] = 1
				}
				if name == "linear" || name == "dropout" {
					return // their gradient does not depend on x
				}
				weightedSum(s, y, weights).Backward()
				if !hasNonFinite(g.Float32s()) {
					t.Errorf("the gradient of %s at %v is finite", name, bad)
				}
			})
		}
	}
}

func hasNonFinite(x []float32) bool {
	return slices.ContainsFunc(x, func(v float32) bool { return v-v != 0 })
}

// A micro-batch without tokens passes through every layer, forward and back, and adds nothing.
func TestEmptyMicroBatch(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 1))
	const h, v = 16, 20
	do(t, func(s *Scope) {
		param := func(dims ...int64) (Tensor, Tensor) {
			p, g := s.FromFloat32s(normal(random, 1, dims...), dims...), s.Zeros(Float32, dims...)
			p.SetRequiresGrad(true)
			p.SetGrad(g)
			return p, g
		}
		table, dTable := param(v, h)
		w, dw := param(h, h)
		scale, dScale := param(h)
		bias, dBias := param(h)
		none := s.FromInt64s(nil)
		key := DropoutKey{Seed: 1}
		x := s.EmbeddingSum(table, table, Tensor{}, none, none, Tensor{}, -1)
		x = s.DropoutAddLayerNorm(x, Tensor{}, scale, bias, 1e-5, 0.1, key)
		y := s.Linear(x, w, bias)
		y = s.Attention(y, y, y, s.Offsets([]int32{0}), s.Offsets([]int32{0}), 2, 1, 0.1, key)
		y = s.Dropout(y, 0.1, key)
		y = s.DropoutAddLayerNorm(y, x, scale, bias, 1e-5, 0.1, key)
		loss := s.LinearCrossEntropy(s.IndexSelect(y, none), table, Tensor{}, none, 0)
		if loss.Value() != 0 {
			t.Errorf("the loss of nothing is %v", loss.Value())
		}
		loss.Backward()
		for _, g := range []Tensor{dTable, dw, dScale, dBias} {
			if slices.ContainsFunc(g.Float32s(), func(x float32) bool { return x != 0 }) {
				t.Error("nothing gives a gradient")
			}
		}
		// Samples without tokens between others, too.
		z := s.FromFloat32s(normal(random, 1, 2, h), 2, h)
		a := s.Attention(z, z, z, s.Offsets([]int32{0, 0, 2, 2}), s.Offsets([]int32{0, 0, 2, 2}), 2, 1, 0, key)
		b := s.Attention(z, z, z, s.Offsets([]int32{0, 2}), s.Offsets([]int32{0, 2}), 2, 1, 0, key)
		if !slices.Equal(a.Float32s(), b.Float32s()) {
			t.Error("empty samples change their neighbour's attention")
		}
	})
}
