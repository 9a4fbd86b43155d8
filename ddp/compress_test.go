package ddp

import (
	"fmt"
	"math"

	"github.com/ddprun/ddprun/internal/torch"
)

// rounded is x in a format with bits of mantissa and a least exponent, nearest and ties to even.
func rounded(x float64, bits, least int) float64 {
	if x == 0 {
		return 0
	}
	unit := math.Ldexp(1, max(math.Ilogb(x), least)-bits)
	return math.RoundToEven(x/unit) * unit
}

// compressed is a scene of two ranks: a step whose gradients are sent in another type, compared bit by bit with the rounded sum of rounded gradients, and clipping and
// AdamW after it with the same in float64.
func compressed(d torch.DType, bits, least int) func(Group, *glooReport) error {
	return func(g Group, _ *glooReport) error {
		p, err := NewParams(reducerList, g)
		if err != nil {
			return err
		}
		defer p.Close()
		initialise(p)
		want := make([]float64, p.grad.Numel())
		for rank := range g.Size() {
			p.ZeroGrad()
			if err := backwardOf(p, uint64(rank), nil); err != nil {
				return err
			}
			for i, x := range p.grad.Float32s() {
				want[i] = rounded(want[i]+rounded(float64(x), bits, least), bits, least)
			}
		}
		p.ZeroGrad()
		r, err := NewReducer(p, g, testBucketBytes)
		if err != nil {
			return err
		}
		defer r.Close()
		if err := r.Compress(d); err != nil {
			return err
		}
		if err := backwardOf(p, uint64(g.Rank()), r.Begin); err != nil {
			return err
		}
		if _, err := r.Finish(); err != nil {
			return err
		}
		squares, differ := 0.0, 0
		for i, x := range p.grad.Float32s() {
			if float64(x) != want[i] {
				return fmt.Errorf("gradient %d is %v, want %v", i, x, want[i])
			}
			if float64(float32(want[i])) != 0 {
				differ++
			}
			squares += want[i] * want[i]
		}
		if differ < 1000 {
			return fmt.Errorf("only %d gradients are not 0", differ)
		}
		return clippedStep(p, want, math.Sqrt(squares))
	}
}

// clippedStep clips and steps, and compares the norm and the parameters with float64's.
func clippedStep(p *Params, grad []float64, norm float64) error {
	got, err := p.GradNorm()
	if err != nil {
		return err
	}
	if math.Abs(got/norm-1) > 1e-10 {
		return fmt.Errorf("norm %v, want %v", got, norm)
	}
	config, lr, maxNorm := AdamWConfig{Beta1: 0.9, Beta2: 0.98, Eps: 1e-6, WeightDecay: 0.1}, 1e-2, norm/2
	before := append([]float32(nil), p.flat.Float32s()...)
	if err := p.Clip(got, maxNorm); err != nil {
		return err
	}
	if err := NewOptimizer(p, config, nil, 0).Step(lr); err != nil {
		return err
	}
	for i, s := range p.States() {
		weightDecay := config.WeightDecay
		if !Decays(s.Name) {
			weightDecay = 0
		}
		for j, x := range s.Value {
			at := p.offsets[i] + int64(j)
			a := adamW{config: config, p: float64(before[at])}
			a.step(grad[at]*maxNorm/(norm+1e-6), lr, weightDecay)
			if math.Abs(float64(x)-a.p) > 1e-6 {
				return fmt.Errorf("%s[%d] is %v, want %v", s.Name, j, x, a.p)
			}
		}
	}
	return nil
}
