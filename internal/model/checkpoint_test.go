package model

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ddprun/ddprun/internal/torch"
)

// With checkpointing the losses and gradients are the same to the last bit, dropout included, and no tensor stays behind. T5's gradients differ in rounding: what
// several layers add to the encoder's output and the sums is added in another order.
func TestCheckpointing(t *testing.T) {
	pass := Pass{Train: true, Dropout: torch.DropoutKey{Seed: 1, Step: 2, Lane: 3}}
	for _, c := range []struct {
		dir, golden string
		heads       Heads
	}{
		{"bert-mlm-nsp", "golden", Heads{Tokens: true, Pairs: true}}, {"roberta", "golden", Heads{Tokens: true}}, {"distilbert", "golden", Heads{Tokens: true}},
		{"t5-v1.0", "seq2seq", targets}, {"t5-v1.1", "seq2seq", targets},
	} {
		dir := filepath.Join("testdata", c.dir)
		g := openGolden(t, filepath.Join(dir, c.golden+".safetensors"))
		run := func(checkpointing bool) (losses []float64, all [][]float32) {
			before := torch.Live()
			err := torch.Do(func(s *torch.Scope) error {
				m, _, grads := loadModel(t, s, dir, c.heads)
				b := g.batchFor(c.heads)
				pass.Checkpointing = checkpointing
				loss := s.Zeros(torch.Float32)
				for _, term := range m.Losses(s, b, pass) {
					losses = append(losses, term.Sum.Value())
					loss = s.Add(loss, term.Sum)
				}
				loss.Backward()
				for _, grad := range grads {
					all = append(all, slices.Clone(grad.Float32s()))
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if now := torch.Live(); now != before {
				t.Errorf("%s: %d tensors are left", c.dir, now-before)
			}
			return losses, all
		}
		wantLosses, want := run(false)
		gotLosses, got := run(true)
		if !slices.Equal(gotLosses, wantLosses) {
			t.Errorf("%s: losses %v, want %v", c.dir, gotLosses, wantLosses)
		}
		for i := range want {
			if !slices.Equal(got[i], want[i]) {
				worst, largest := 0.0, 0.0
				for k := range want[i] {
					worst = max(worst, math.Abs(float64(got[i][k]-want[i][k])))
					largest = max(largest, math.Abs(float64(want[i][k])))
				}
				if c.heads != targets || !(worst <= 2e-6*largest) {
					t.Errorf("%s: gradient %d differs by %.2g of %.2g", c.dir, i, worst, largest)
				}
			}
		}
	}
}
