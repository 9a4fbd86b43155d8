package model

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/ddprun/ddprun/internal/torch"
)

// In bfloat16 the loss is transformers' under autocast within 2e-2, and logits and gradients lie no further from float32's than autocast's do, as root mean
// squares; that they do lie apart shows that bfloat16 was used. Autocast also rounds between the products, and in attention.
func TestBF16(t *testing.T) {
	for _, c := range []struct {
		dir, golden string
		heads       Heads
	}{
		{"bert-gelu", "golden", Heads{Tokens: true}}, {"bert-nsp", "golden", Heads{Pairs: true}}, {"bert-mlm-nsp", "golden", Heads{Tokens: true, Pairs: true}},
		{"roberta", "golden", Heads{Tokens: true}}, {"t5-v1.0", "seq2seq", targets}, {"t5-v1.1", "seq2seq", targets},
	} {
		t.Run(c.dir, func(t *testing.T) {
			dir := filepath.Join("testdata", c.dir)
			exact, auto := openGolden(t, filepath.Join(dir, c.golden+".safetensors")), openGolden(t, filepath.Join(dir, "bf16.safetensors"))
			torch.SetBF16(true)
			defer torch.SetBF16(false)
			err := torch.Do(func(s *torch.Scope) error {
				m, _, grads := loadModel(t, s, dir, c.heads)
				b := exact.batchFor(c.heads)
				near := func(what string, got []float32, most float64) {
					t.Helper()
					want := exact.floats(what)
					ours, theirs := distance(got, want), distance(auto.floats(what), want)
					size := distance(want, make([]float32, len(want)))
					apart := distance(got, auto.floats(what))
					t.Logf("%s, shares of their size: %.2g from autocast's; from float32's %.2g, autocast's %.2g", what, apart/size, ours/size, theirs/size)
					if !(ours <= most*theirs) || ours == 0 {
						t.Errorf("%s: off float32's by %.2g, autocast's by %.2g", what, ours, theirs)
					}
				}
				tokens, pairs := m.Logits(s, b)
				if tokens.Defined() {
					near("logits", floatsOf(tokens), 1.2)
				}
				if pairs.Defined() {
					near("pair_logits", floatsOf(pairs), 2) // six numbers, so chance has a say
				}
				loss := s.DeviceZeros(torch.Float32)
				for _, term := range m.Losses(s, b, Pass{}) {
					loss = s.Add(loss, s.MulScalar(term.Sum, 1/float64(term.Count)))
				}
				want := float64(auto.floats("loss_mean")[0])
				if d := math.Abs(loss.Value() - want); !(d <= 2e-2) {
					t.Errorf("loss %v, autocast's %v", loss.Value(), want)
				}
				t.Logf("loss %.5f, autocast's %.5f, float32's %.5f", loss.Value(), want, exact.floats("loss_mean")[0])
				loss.Backward()
				ours, theirs := 0.0, 0.0
				for i, spec := range m.Specs() {
					want := exact.floats("grad." + spec.Name)
					ours += math.Pow(distance(floatsOf(grads[i]), want), 2)
					theirs += math.Pow(distance(auto.floats("grad."+spec.Name), want), 2)
				}
				if !(ours <= 1.2*1.2*theirs) || ours == 0 {
					t.Errorf("gradients: off float32's by %.2g, autocast's by %.2g", math.Sqrt(ours), math.Sqrt(theirs))
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// distance is the root of the sum of squared differences.
func distance(x, y []float32) float64 {
	sum := 0.0
	for i := range x {
		sum += math.Pow(float64(x[i])-float64(y[i]), 2)
	}
	return math.Sqrt(sum)
}

// floatsOf reads a tensor that may be of bfloat16, or a GPU's.
func floatsOf(t torch.Tensor) []float32 {
	out := make([]float32, t.Numel())
	t.ReadFloat32s(out)
	return out
}
