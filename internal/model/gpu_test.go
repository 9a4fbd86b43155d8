package model

import (
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/ddprun/ddprun/internal/torch"
)

// useGPU makes the first GPU the place of models' tensors until the test ends; without one the test skips.
func useGPU(t *testing.T) {
	t.Helper()
	if _, err := torch.OpenCUDA(); err != nil {
		t.Skip(err)
	}
	runtime.LockOSThread()
	if err := torch.UseCUDA(0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		torch.UseCPU()
		runtime.UnlockOSThread()
	})
}

// On a GPU the models are transformers': logits, losses and gradients of the golden files, in float32 without TF32 and in bfloat16.
func TestGPUGoldens(t *testing.T) {
	useGPU(t)
	TestGoldens(t)
	TestBF16(t)
}

// Of T5, whose golden file has no test that runs on any device, and of all others: losses and gradients are those of float64 as nearly as transformers' own, and a second pass with dropout at every
// place repeats the first, computed again in backward or not.
func TestGPULossesAndGradients(t *testing.T) {
	useGPU(t)
	if err := torch.SetPrecision(false, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = torch.SetPrecision(false, false) })
	drop := Pass{Train: true, Dropout: torch.DropoutKey{Seed: 1, Step: 2, Lane: 3}}
	again := drop
	again.Checkpointing = true
	for _, c := range composedModels {
		dir := filepath.Join("testdata", c.dir)
		g := openGolden(t, filepath.Join(dir, c.golden+".safetensors"))
		ours := resultOf(t, dir, g, c.heads, Pass{}, torch.Float32)
		torch.UseCPU()
		var exact result
		pretend(func() { exact = resultOf(t, dir, g, c.heads, Pass{}, torch.Float64) })
		_, theirs := golden32(t, dir, g, c.heads, exact.losses).off(exact)
		if err := torch.UseCUDA(0); err != nil {
			t.Fatal(err)
		}
		loss, gradient := ours.off(exact)
		t.Logf("%s: losses off by %.2g, gradients by %.2g; transformers' by %.2g", c.dir, loss, gradient, theirs)
		if !(loss <= 1e-5 && gradient <= 5*theirs) {
			t.Errorf("%s: a loss is off by %.2g, a gradient by %.2g; transformers' by %.2g", c.dir, loss, gradient, theirs)
		}
		first, second := resultOf(t, dir, g, c.heads, drop, torch.Float32), resultOf(t, dir, g, c.heads, again, torch.Float32)
		if !slices.Equal(first.losses, second.losses) {
			t.Errorf("%s: losses %v, and with checkpointing %v", c.dir, first.losses, second.losses)
		}
		if loss, gradient := second.off(first); !(loss == 0 && gradient <= 1e-6) {
			t.Errorf("%s: with checkpointing a gradient is off by %.2g", c.dir, gradient)
		}
		third := resultOf(t, dir, g, c.heads, drop, torch.Float32)
		for i := range first.grads {
			if !slices.Equal(first.grads[i], third.grads[i]) {
				t.Errorf("%s: with deterministic algorithms a second pass gives other bits (gradient %d)", c.dir, i)
				break
			}
		}
	}
}
