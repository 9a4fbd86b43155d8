package torch

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	lib "github.com/sugarme/gotch/libtch"
)

// input is one argument of a layer that has a gradient.
type input struct {
	name   string
	dims   []int64
	values []float32
}

// layerCase is a layer with its arguments, and the same computation in float64.
type layerCase struct {
	inputs    []input
	apply     func(s *Scope, in []Tensor) Tensor
	reference func(in [][]float64) []float64
	noGrad    []int // elements of input 0 whose gradient is left out (a padding row)
	// threadsShow: matrix products of libtorch round differently with another number of threads.
	threadsShow bool
}

func normal(random *rand.Rand, scale float64, dims ...int64) []float32 {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(random.NormFloat64() * scale)
	}
	return v
}

// placed returns a tensor with a copy of v where models' tensors live.
func placed(s *Scope, v []float32, dims ...int64) Tensor {
	t := s.DeviceZeros(Float32, dims...)
	_ = t.Fill(func(x []float32) error { // which never fails
		copy(x, v)
		return nil
	})
	return t
}

// read copies t to the host.
func read(t Tensor) []float32 {
	x := make([]float32, t.Numel())
	t.ReadFloat32s(x)
	return x
}

// outcome is a layer's result and the gradients of sum(result * weights).
type outcome struct {
	out   []float32
	grads [][]float32
}

// run does a forward and a backward pass. Where initial is given, gradients accumulate in tensors that begin with its values.
func (c *layerCase) run(t *testing.T, threads int, weights []float32, initial [][]float32) outcome {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	SetThreads(threads)
	defer SetThreads(1)
	var o outcome
	do(t, func(s *Scope) {
		var in, set []Tensor
		for i, x := range c.inputs {
			leaf := placed(s, x.values, x.dims...)
			leaf.SetRequiresGrad(true)
			if initial != nil {
				g := placed(s, initial[i], x.dims...)
				leaf.SetGrad(g)
				set = append(set, g)
			}
			in = append(in, leaf)
		}
		y := c.apply(s, in)
		o.out = read(y)
		weightedSum(s, y, weights).Backward()
		for i, leaf := range in {
			if initial != nil {
				o.grads = append(o.grads, read(set[i])) // the very tensor that was set
				continue
			}
			var g lib.Ctensor
			lib.AtgGrad(&g, leaf.c)
			o.grads = append(o.grads, read(s.own("grad", g)))
		}
	})
	return o
}

func weightedSum(s *Scope, y Tensor, weights []float32) Tensor {
	var product, sum lib.Ctensor
	lib.AtgMul(&product, y.c, placed(s, weights, y.Shape()...).c)
	s.own("mul", product)
	lib.AtgSum(&sum, product, int32(Float32))
	return s.own("sum", sum)
}

func (c *layerCase) float64s() [][]float64 {
	in := make([][]float64, len(c.inputs))
	for i, x := range c.inputs {
		for _, v := range x.values {
			in[i] = append(in[i], float64(v))
		}
	}
	return in
}

// check compares the result with the reference, and each gradient with central differences of the reference in some directions.
func (c *layerCase) check(t *testing.T) {
	random := rand.New(rand.NewPCG(17, 4))
	in := c.float64s()
	want := c.reference(in)
	weights := normal(random, 1, int64(len(want)))
	got := c.run(t, 1, weights, nil)
	for i, w := range want {
		if d := math.Abs(float64(got.out[i]) - w); !(d <= 2e-5*(1+math.Abs(w))) {
			t.Fatalf("result %d is %v, the reference has %v", i, got.out[i], w)
		}
	}
	loss := func() float64 {
		sum := 0.0
		for i, y := range c.reference(in) {
			sum += y * float64(weights[i])
		}
		return sum
	}
	for k, x := range c.inputs {
		g := slices.Clone(got.grads[k])
		if k == 0 {
			for _, i := range c.noGrad {
				if g[i] != 0 {
					t.Errorf("%s[%d] has the gradient %v, want none", x.name, i, g[i])
				}
			}
		}
		length := 0.0
		for _, v := range g {
			length += float64(v) * float64(v)
		}
		length = math.Sqrt(length)
		all, directions := 4, 12
		if Composed() { // whose backward passes are mostly libtorch's
			all, directions = 2, 3
		}
		for n := range directions {
			direction := make([]float64, len(g))
			if n < all { // all elements at once, then single ones
				for i := range direction {
					direction[i] = random.NormFloat64() / math.Sqrt(float64(len(g)))
				}
			} else {
				direction[random.IntN(len(g))] = 1
			}
			if k == 0 {
				for _, i := range c.noGrad {
					direction[i] = 0
				}
			}
			const h = 1e-5
			move := func(by float64) float64 {
				for i, d := range direction {
					in[k][i] += by * d
				}
				return loss()
			}
			up := move(h)
			down := move(-2 * h)
			move(h)
			numeric, analytic := (up-down)/(2*h), 0.0
			for i, d := range direction {
				analytic += float64(g[i]) * d
			}
			if d := math.Abs(numeric - analytic); !(d <= 1e-4*(0.01+length/math.Sqrt(float64(len(g)))+math.Abs(numeric))) {
				t.Fatalf("gradient of %s, direction %d: %v, by differences %v", x.name, n, analytic, numeric)
			}
		}
	}
	c.checkAccumulation(t, weights, got)
	c.checkThreads(t, weights, got)
}

// checkAccumulation: gradients are added to what a set .grad holds, and that tensor stays the gradient.
func (c *layerCase) checkAccumulation(t *testing.T, weights []float32, fresh outcome) {
	t.Helper()
	var initial [][]float32
	for _, x := range c.inputs {
		v := make([]float32, len(x.values))
		for i := range v {
			v[i] = float32(i%5) - 2
		}
		initial = append(initial, v)
	}
	added := c.run(t, 1, weights, initial)
	for k, g := range added.grads {
		for i, v := range g {
			want := float64(fresh.grads[k][i]) + float64(initial[k][i])
			if d := math.Abs(float64(v) - want); d > 1e-5*(1+math.Abs(want)) {
				t.Fatalf("gradient of %s[%d] added to %v gives %v, want %v", c.inputs[k].name, i, initial[k][i], v, want)
			}
		}
	}
}

// checkThreads: one and two threads give the same bits, or, through libtorch's matrix products, nearly the same numbers.
func (c *layerCase) checkThreads(t *testing.T, weights []float32, one outcome) {
	t.Helper()
	two := c.run(t, 2, weights, nil)
	compare := func(what string, a, b []float32) {
		for i := range a {
			if a[i] != b[i] && !((c.threadsShow || Composed()) && math.Abs(float64(a[i]-b[i])) <= 1e-5*(1+math.Abs(float64(a[i])))) {
				t.Fatalf("%s[%d] is %v with one thread, %v with two", what, i, a[i], b[i])
			}
		}
	}
	compare("result", one.out, two.out)
	for k, x := range c.inputs {
		compare("gradient of "+x.name, one.grads[k], two.grads[k])
	}
}
