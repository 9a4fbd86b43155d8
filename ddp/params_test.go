package ddp

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/ddprun/ddprun/internal/torch"
)

// testList has sizes around the alignment of 16 elements, and names with and without weight decay.
var testList = []Param{
	{Name: "embeddings.weight", Shape: []int64{7, 5}},
	{Name: "layer.0.dense.weight", Shape: []int64{16, 16}},
	{Name: "layer.0.dense.bias", Shape: []int64{16}},
	{Name: "layer.0.LayerNorm.weight", Shape: []int64{1}},
	{Name: "layer.1.dense.weight", Shape: []int64{3, 17}},
	{Name: "scalar.weight"},
}

// newTestParams closes its result at the test's end and fails the test if a tensor is left then.
func newTestParams(t testing.TB, list []Param) *Params {
	t.Helper()
	before := torch.Live()
	p, err := NewParams(list, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		if now := torch.Live(); now != before {
			t.Errorf("%d tensors live after Close, %d before NewParams", now, before)
		}
	})
	return p
}

// gradOf is the memory of parameter i's gradient.
func gradOf(p *Params, i int) []float32 {
	return p.grad.Float32s()[p.offsets[i] : p.offsets[i]+p.sizes[i]]
}

func fillNormal(x []float32, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range x {
		x[i] = float32(random.NormFloat64())
	}
}

func inParameter(p *Params, at int64) bool {
	for i, offset := range p.offsets {
		if at >= offset && at < offset+p.sizes[i] {
			return true
		}
	}
	return false
}

func TestParamsLayout(t *testing.T) {
	p := newTestParams(t, testList)
	// In reverse order, each rounded up to 16 elements: 1, 51, 1, 16, 256, 35.
	if want := []int64{16 + 64 + 16 + 16 + 256, 16 + 64 + 16 + 16, 16 + 64 + 16, 16 + 64, 16, 0}; !slices.Equal(p.offsets, want) {
		t.Errorf("offsets %v, want %v", p.offsets, want)
	}
	if want := int64(35 + 256 + 16 + 1 + 51 + 1); p.Numel() != want {
		t.Errorf("%d elements, want %d", p.Numel(), want)
	}
	if got, want := p.flat.Numel(), int64(16+64+16+16+256+48); got != want {
		t.Errorf("buffer of %d elements, want %d", got, want)
	}
	for _, buf := range []torch.Tensor{p.flat, p.grad, p.expAvg, p.expAvgSq} {
		if uintptr(unsafe.Pointer(unsafe.SliceData(buf.Float32s())))%64 != 0 {
			t.Error("a buffer does not start at a multiple of 64 bytes")
		}
	}
	for i, x := range p.Tensors() {
		if !slices.Equal(x.Shape(), testList[i].Shape) {
			t.Errorf("%s: shape %v, want %v", testList[i].Name, x.Shape(), testList[i].Shape)
		}
		s := p.States()[i]
		x.Float32s()[0] = float32(i + 1)
		if s.Value[0] != float32(i+1) || p.flat.Float32s()[p.offsets[i]] != float32(i+1) {
			t.Errorf("%s is no view of the buffer", s.Name)
		}
		if int64(len(s.Value)) != p.sizes[i] || len(s.ExpAvg) != len(s.Value) || len(s.ExpAvgSq) != len(s.Value) {
			t.Errorf("%s: states of %d, %d, %d elements", s.Name, len(s.Value), len(s.ExpAvg), len(s.ExpAvgSq))
		}
	}
}

// Frozen parameters lie after the others, where no gradients and moments are; they learn nothing, and the others what they would learn anyway.
func TestFrozenParams(t *testing.T) {
	list := slices.Clone(testList)
	list[0].Frozen, list[4].Frozen = true, true
	p := newTestParams(t, list)
	if want := []int64{16 + 16 + 16 + 256 + 64, 16 + 16 + 16, 16 + 16, 16, 16 + 16 + 16 + 256, 0}; !slices.Equal(p.offsets, want) {
		t.Errorf("offsets %v, want %v", p.offsets, want)
	}
	if got, want := p.grad.Numel(), int64(16+16+16+256); got != want || p.expAvg.Numel() != want {
		t.Errorf("%d gradients and %d moments, want %d", got, p.expAvg.Numel(), want)
	}
	o := NewOptimizer(p, AdamWConfig{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.1}, nil, 0)
	fillNormal(p.flat.Float32s(), 1)
	fillNormal(p.grad.Float32s(), 2)
	before := slices.Clone(p.flat.Float32s())
	if err := o.Step(0.1); err != nil {
		t.Fatal(err)
	}
	for i, s := range p.States() {
		same := slices.Equal(s.Value, before[p.offsets[i]:p.offsets[i]+p.sizes[i]])
		if same != list[i].Frozen || (s.ExpAvg == nil) != list[i].Frozen || p.params[i].RequiresGrad() == list[i].Frozen {
			t.Errorf("%s: frozen %v, unchanged %v, moments %v, requires a gradient %v", s.Name, list[i].Frozen, same, s.ExpAvg != nil, p.params[i].RequiresGrad())
		}
	}
	p.grad.Float32s()[0] = float32(math.NaN()) // the last parameter's
	if got := p.FirstNonFinite(); got != "scalar.weight" {
		t.Errorf("the gradient that is not finite is %q's", got)
	}
	bucketOf, ranges := planBuckets(p, 1<<20)
	if len(ranges) != 1 || ranges[0] != (bucketRange{0, 16 + 16 + 16 + 256}) || len(bucketOf) != len(list) {
		t.Errorf("buckets %v of %v", ranges, bucketOf)
	}
}

// Gradients accumulate in the buffer over several passes, through layers that add in place and through autograd's own way.
func TestParamsGradientsAccumulateInTheBuffer(t *testing.T) {
	p := newTestParams(t, []Param{{Name: "w", Shape: []int64{2, 3}}, {Name: "s", Shape: []int64{2}}})
	for pass := range 3 {
		err := torch.Do(func(s *torch.Scope) error {
			x := s.FromFloat32s([]float32{1, 2, 3}, 1, 3)
			y := s.Linear(x, p.Tensors()[0], torch.Tensor{}) // adds in place
			z := s.Add(y, p.Tensors()[1])                    // autograd adds
			ones := s.FromFloat32s([]float32{1, 1}, 2, 1)
			s.Matmul(z, ones).Backward()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		n := float32(pass + 1)
		if got, want := gradOf(p, 0), []float32{n, 2 * n, 3 * n, n, 2 * n, 3 * n}; !slices.Equal(got, want) {
			t.Fatalf("pass %d: gradient of w %v, want %v", pass, got, want)
		}
		if got, want := gradOf(p, 1), []float32{n, n}; !slices.Equal(got, want) {
			t.Fatalf("pass %d: gradient of s %v, want %v", pass, got, want)
		}
	}
	p.ZeroGrad()
	for i, g := range p.grad.Float32s() {
		if g != 0 {
			t.Fatalf("gradient %d is %v after ZeroGrad", i, g)
		}
	}
}

func TestNewParamsRefusesShapes(t *testing.T) {
	for _, shape := range [][]int64{{0}, {3, -1}, {math.MaxInt64 / 2, 3}, {1 << 32, 1 << 32}} {
		p, err := NewParams([]Param{{Name: "good", Shape: []int64{1}}, {Name: "bad.weight", Shape: shape}}, nil)
		if err == nil {
			p.Close()
			t.Errorf("shape %v: no error", shape)
		} else if !strings.Contains(err.Error(), "bad.weight") {
			t.Errorf("shape %v: %v does not name the parameter", shape, err)
		}
	}
	before := torch.Live()
	// Each size is possible, their sum is more memory than there is.
	if p, err := NewParams([]Param{{Name: "a", Shape: []int64{1 << 44}}, {Name: "b", Shape: []int64{1 << 44}}}, nil); err == nil {
		p.Close()
		t.Error("256 TiB: no error")
	}
	if torch.Live() != before {
		t.Errorf("%d tensors live after a failure, %d before", torch.Live(), before)
	}
}

func TestCloseTwice(t *testing.T) {
	p, err := NewParams(testList, nil)
	if err != nil {
		t.Fatal(err)
	}
	before := torch.Live()
	p.Close()
	p.Close()
	if want := before - 4 - 4*int64(len(testList)); torch.Live() != want {
		t.Errorf("%d tensors live, want %d", torch.Live(), want)
	}
}

func TestGradNorm(t *testing.T) {
	t.Cleanup(func() { torch.SetThreads(1) })
	// Several segments, the last one not full, and numbers whose squares float32 could not hold.
	for _, scale := range []float32{1, 1e25, 1e-25} {
		p := newTestParams(t, []Param{{Name: "a", Shape: []int64{3 * normSegment}}, {Name: "b", Shape: []int64{1001}}})
		fillNormal(p.grad.Float32s(), 3)
		sum := 0.0
		for i, g := range p.grad.Float32s() {
			p.grad.Float32s()[i] = g * scale
			sum += float64(g*scale) * float64(g*scale)
		}
		var norms []float64
		for _, threads := range []int{1, 2, 3} {
			torch.SetThreads(threads)
			norm, err := p.GradNorm()
			if err != nil {
				t.Fatal(err)
			}
			norms = append(norms, norm)
		}
		if norms[0] != norms[1] || norms[0] != norms[2] {
			t.Errorf("norms %v of 1, 2, 3 threads differ", norms)
		}
		if want := math.Sqrt(sum); math.Abs(norms[0]/want-1) > 1e-12 {
			t.Errorf("norm %v, want %v", norms[0], want)
		}
	}
}

func TestClip(t *testing.T) {
	for _, c := range []struct{ norm, maxNorm float64 }{{5, 1}, {5, 4.999999}, {5, 5}, {5, 0}, {0.5, 1}, {0, 1}, {1e30, 1}} {
		p := newTestParams(t, []Param{{Name: "a", Shape: []int64{33}}})
		fillNormal(p.grad.Float32s(), 9)
		before := slices.Clone(p.grad.Float32s())
		if err := p.Clip(c.norm, c.maxNorm); err != nil {
			t.Fatal(err)
		}
		// torch.nn.utils.clip_grad_norm_: coefficient max_norm / (norm + 1e-6), at most 1.
		factor := 1.0
		if c.maxNorm > 0 {
			factor = min(1, c.maxNorm/(c.norm+1e-6))
		}
		for i, g := range p.grad.Float32s() {
			if want := before[i] * float32(factor); g != want {
				t.Errorf("norm %v, max %v: gradient %d is %v, want %v", c.norm, c.maxNorm, i, g, want)
				break
			}
		}
	}
}

func TestFirstNonFinite(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, bad := range []float32{nan, inf, -inf} {
		p := newTestParams(t, testList)
		fillNormal(p.grad.Float32s(), 1)
		if name := p.FirstNonFinite(); name != "" {
			t.Errorf("%s is said not to be finite", name)
		}
		last := gradOf(p, 4)
		last[len(last)-1] = bad
		if name := p.FirstNonFinite(); name != "layer.1.dense.weight" {
			t.Errorf("%v: got %q", bad, name)
		}
		gradOf(p, 1)[0] = bad
		if name := p.FirstNonFinite(); name != "layer.0.dense.weight" {
			t.Errorf("%v: got %q, not the first", bad, name)
		}
		norm, err := p.GradNorm()
		if err != nil || !math.IsNaN(norm) && !math.IsInf(norm, 1) {
			t.Errorf("%v: norm %v, %v", bad, norm, err)
		}
	}
}
