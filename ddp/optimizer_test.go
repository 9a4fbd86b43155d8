package ddp

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/ddprun/ddprun/internal/torch"
)

// The names that Trainer decays and spares, of every architecture that tools/golden asked.
func TestDecaysEqualsTrainer(t *testing.T) {
	raw, err := os.ReadFile("testdata/decay_names.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden map[string]struct{ Decay, Spared []string }
	if err := json.Unmarshal(raw, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden) < 5 {
		t.Fatalf("only %d architectures", len(golden))
	}
	for arch, names := range golden {
		if len(names.Decay) == 0 || len(names.Spared) == 0 {
			t.Errorf("%s: %d names with decay, %d without", arch, len(names.Decay), len(names.Spared))
		}
		for _, name := range names.Decay {
			if !Decays(name) {
				t.Errorf("%s: %s is spared, Trainer decays it", arch, name)
			}
		}
		for _, name := range names.Spared {
			if Decays(name) {
				t.Errorf("%s: %s decays, Trainer spares it", arch, name)
			}
		}
	}
}

// adamW is Loshchilov and Hutter's algorithm 2 in float64, for one element.
type adamW struct {
	config  AdamWConfig
	p, m, v float64
	steps   float64
}

func (a *adamW) step(g, lr, weightDecay float64) {
	a.steps++
	a.p -= lr * weightDecay * a.p
	a.m = a.config.Beta1*a.m + (1-a.config.Beta1)*g
	a.v = a.config.Beta2*a.v + (1-a.config.Beta2)*g*g
	mHat := a.m / (1 - math.Pow(a.config.Beta1, a.steps))
	vHat := a.v / (1 - math.Pow(a.config.Beta2, a.steps))
	a.p -= lr * mHat / (math.Sqrt(vHat) + a.config.Eps)
}

func TestOptimizerEqualsAdamWInFloat64(t *testing.T) {
	config := AdamWConfig{Beta1: 0.9, Beta2: 0.98, Eps: 1e-6, WeightDecay: 0.1}
	p := newTestParams(t, testList)
	random := rand.New(rand.NewPCG(1, 2))
	var reference [][]*adamW
	for _, s := range p.States() {
		var r []*adamW
		for i := range s.Value {
			s.Value[i] = float32(random.NormFloat64())
			r = append(r, &adamW{config: config, p: float64(s.Value[i])})
		}
		reference = append(reference, r)
	}
	o := NewOptimizer(p, config, nil, 0)
	const steps = 50
	for step := range steps {
		lr := 1e-2 * Schedule{Type: "linear", WarmupSteps: 5, TotalSteps: steps}.Factor(int64(step)+1)
		for i, x := range p.List() {
			weightDecay := config.WeightDecay
			if !Decays(x.Name) {
				weightDecay = 0
			}
			for j := range gradOf(p, i) {
				g := float32(random.NormFloat64())
				gradOf(p, i)[j] = g
				reference[i][j].step(float64(g), lr, weightDecay)
			}
		}
		if err := o.Step(lr); err != nil {
			t.Fatal(err)
		}
	}
	if o.Steps() != steps {
		t.Errorf("%d steps done, the optimizer counts %d", steps, o.Steps())
	}
	worst := 0.0
	for i, s := range p.States() {
		for j, r := range reference[i] {
			// A step adds about one rounding of a number near 1 (6e-8) to a parameter.
			for _, d := range []float64{float64(s.Value[j]) - r.p, float64(s.ExpAvg[j]) - r.m, float64(s.ExpAvgSq[j]) - r.v} {
				if worst = max(worst, math.Abs(d)); math.Abs(d) > steps*1e-7 {
					t.Fatalf("%s[%d]: %v, %v, %v, the reference has %v, %v, %v", s.Name, j, s.Value[j], s.ExpAvg[j], s.ExpAvgSq[j], r.p, r.m, r.v)
				}
			}
		}
	}
	t.Logf("at most %.1e off after %d steps", worst, steps)
}

// Parameters stepped one by one, by an optimizer that goes on from a saved count, each with its learning rate, come out bit for bit as those stepped in groups.
func TestOptimizerGroupingAndResumingKeepBits(t *testing.T) {
	config := AdamWConfig{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.01}
	together, apart := newTestParams(t, testList), newTestParams(t, testList)
	for i, s := range together.States() {
		fillNormal(s.Value, uint64(i))
		copy(apart.States()[i].Value, s.Value)
	}
	var scales []float64 // of the learning rate: 1, 1/2, 1/4 in turn
	for i := range testList {
		scales = append(scales, math.Pow(0.5, float64(i%3)))
	}
	o := NewOptimizer(together, config, scales, 0)
	for step := range int64(4) {
		for i, x := range testList {
			fillNormal(gradOf(together, i), uint64(step)<<8|uint64(i))
			copy(gradOf(apart, i), gradOf(together, i))
			a := torch.AdamW{LearningRate: 1e-3 * scales[i], Beta1: config.Beta1, Beta2: config.Beta2, Eps: config.Eps}
			if Decays(x.Name) {
				a.WeightDecay = config.WeightDecay
			}
			if err := torch.FusedAdamW(apart.params[i:i+1], apart.grads[i:i+1], apart.expAvgs[i:i+1], apart.expAvgSqs[i:i+1], step+1, a); err != nil {
				t.Fatal(err)
			}
		}
		if step == 2 {
			o = NewOptimizer(together, config, scales, o.Steps())
		}
		if err := o.Step(1e-3); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range together.States() {
		a := apart.States()[i]
		for j := range s.Value {
			if s.Value[j] != a.Value[j] || s.ExpAvg[j] != a.ExpAvg[j] || s.ExpAvgSq[j] != a.ExpAvgSq[j] {
				t.Fatalf("%s[%d] differs", s.Name, j)
			}
		}
	}
	for i, x := range together.flat.Float32s() {
		if !inParameter(together, int64(i)) && x != 0 {
			t.Fatalf("the gap at %d is %v", i, x)
		}
	}
}
