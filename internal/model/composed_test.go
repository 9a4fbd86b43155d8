package model

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/torch"
)

var update = flag.Bool("update", false, "write testdata/composed_operations.txt")

// composedModels are a golden model of each family and class.
var composedModels = []struct {
	dir, golden string
	heads       Heads
}{
	{"bert-gelu", "golden", Heads{Tokens: true}}, {"bert-nsp", "golden", Heads{Pairs: true}}, {"bert-mlm-nsp", "golden", Heads{Tokens: true, Pairs: true}},
	{"roberta", "golden", Heads{Tokens: true}}, {"xlm-roberta", "golden", Heads{Tokens: true}}, {"camembert", "golden", Heads{Tokens: true}},
	{"distilbert", "golden", Heads{Tokens: true}}, {"electra", "golden", Heads{Tokens: true}}, {"t5-v1.0", "seq2seq", targets}, {"t5-v1.1", "seq2seq", targets},
}

// pretend runs f with layers composed as on a GPU.
func pretend(f func()) {
	torch.Pretend(true)
	defer torch.Pretend(false)
	f()
}

// result is the losses and gradients of a micro-batch.
type result struct {
	losses []float64
	grads  [][]float64
}

// resultOf a golden micro-batch, the loss being the sum of the terms' means, with parameters of type d.
func resultOf(t *testing.T, dir string, g golden, heads Heads, pass Pass, d torch.DType) (r result) {
	t.Helper()
	before := torch.Live()
	err := torch.Do(func(s *torch.Scope) error {
		m, params, sinks := loadModelAs(t, s, dir, heads, d)
		loss := s.DeviceZeros(d)
		for _, term := range m.Losses(s, g.batchFor(heads), pass) {
			r.losses = append(r.losses, term.Sum.Value())
			loss = s.Add(loss, s.MulScalar(term.Sum, 1/float64(term.Count)))
		}
		loss.Backward()
		for i, grad := range sinks { // the very tensors that were set
			r.grads = append(r.grads, make([]float64, params[i].Numel()))
			if d == torch.Float64 {
				copy(r.grads[i], grad.Float64s())
				continue
			}
			for k, x := range floatsOf(grad) {
				r.grads[i][k] = float64(x)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if now := torch.Live(); now != before {
		t.Errorf("%s: %d tensors are left", dir, now-before)
	}
	return r
}

// loadModelAs is loadModel with parameters and gradients of type d.
func loadModelAs(t *testing.T, s *torch.Scope, dir string, heads Heads, d torch.DType) (m Model, params, grads []torch.Tensor) {
	t.Helper()
	m, _, grads = loadModel(t, s, dir, heads)
	bound := map[string]torch.Tensor{}
	switch m := m.(type) {
	case *bert:
		bound = m.params
	case *t5:
		bound = m.params
	}
	for i, spec := range m.Specs() {
		p := bound[spec.Name]
		if d == torch.Float32 {
			params = append(params, p)
			continue
		}
		wide := s.Zeros(d, p.Shape()...)
		for k, x := range p.Float32s() {
			wide.Float64s()[k] = float64(x)
		}
		grads[i] = s.Zeros(d, p.Shape()...)
		wide.SetRequiresGrad(true)
		wide.SetGrad(grads[i])
		params = append(params, wide)
	}
	if d != torch.Float32 {
		m.Bind(params)
	}
	return m, params, grads
}

// off is how far r is from exact, relative: the worst loss, and the worst gradient by its norm. A gradient that is nothing but rounding, as that of a key's bias, is measured
// by the others.
func (r result) off(exact result) (loss, gradient float64) {
	for i, x := range exact.losses {
		loss = max(loss, math.Abs(r.losses[i]/x-1))
	}
	norm := func(x, y []float64) (sum float64) {
		for i := range x {
			d := x[i]
			if y != nil {
				d -= y[i]
			}
			sum += d * d
		}
		return sum
	}
	all := 0.0
	for _, g := range exact.grads {
		all += norm(g, nil)
	}
	for i, g := range exact.grads {
		gradient = max(gradient, math.Sqrt(norm(r.grads[i], g)/max(norm(g, nil), 1e-6*all)))
	}
	return loss, gradient
}

// golden32 is what transformers computed in float32.
func golden32(t *testing.T, dir string, g golden, heads Heads, losses []float64) result {
	t.Helper()
	r := result{losses: losses}
	m := newModel(t, dir, heads)
	for _, spec := range m.Specs() {
		name := spec.Name
		for tied, to := range m.matchRules().Tied { // PyTorch knows a tied parameter by the name that it meets first
			if to == name && g.has("grad."+tied) {
				name = tied
			}
		}
		wide := make([]float64, spec.Numel())
		for k, x := range g.floats("grad." + name) {
			wide[k] = float64(x)
		}
		r.grads = append(r.grads, wide)
	}
	return r
}

// The layers that a GPU runs, on the CPU, and the fused ones compute the same function, with dropout at every place, label smoothing and checkpointing: both are off what the
// composed ones give in float64 by no more than float32 is anyway, which is a few times what transformers' float32 is. Measured over all cases: losses off by at most 8.7e-6 fused
// and 2.7e-6 composed; gradients by 0.8e-5 to 3.3e-5 fused, 0.6e-5 to 4.1e-5 composed, 0.6e-5 to 3.7e-5 transformers. What a GPU runs in place of the attention here is its own
// kernels.
func TestComposedLayersAreTheFusedOnes(t *testing.T) {
	dropping := Pass{Train: true, Dropout: torch.DropoutKey{Seed: 1, Step: 2, Lane: 3}}
	smooth, again := dropping, dropping
	smooth.LabelSmoothing, again.Checkpointing = 0.1, true
	for _, c := range composedModels {
		dir := filepath.Join("testdata", c.dir)
		g := openGolden(t, filepath.Join(dir, c.golden+".safetensors"))
		var theirs float64
		for i, pass := range []Pass{{}, smooth, again} {
			fused := resultOf(t, dir, g, c.heads, pass, torch.Float32)
			var composed, exact result
			pretend(func() {
				composed = resultOf(t, dir, g, c.heads, pass, torch.Float32)
				exact = resultOf(t, dir, g, c.heads, pass, torch.Float64)
			})
			if i == 0 {
				_, theirs = golden32(t, dir, g, c.heads, exact.losses).off(exact)
			}
			fusedLoss, fusedGradient := fused.off(exact)
			composedLoss, composedGradient := composed.off(exact)
			t.Logf("%s, pass %d: losses off by %.2g fused, %.2g composed, gradients by %.2g and %.2g; transformers' by %.2g", c.dir, i, fusedLoss, composedLoss, fusedGradient,
				composedGradient, theirs)
			if !(fusedLoss <= 1e-5 && composedLoss <= 1e-5) {
				t.Errorf("%s, pass %d: a loss is off by %.2g fused, %.2g composed", c.dir, i, fusedLoss, composedLoss)
			}
			if !(fusedGradient <= 5*theirs && composedGradient <= 3*theirs && theirs < 5e-5) {
				t.Errorf("%s, pass %d: a gradient is off by %.2g fused, %.2g composed; transformers' by %.2g", c.dir, i, fusedGradient, composedGradient, theirs)
			}
		}
	}
}

// They are transformers' too: the golden files of every family.
func TestComposedGoldens(t *testing.T) {
	pretend(func() {
		TestGoldens(t)
		TestBF16(t)
	})
}

// onlyOnGPUs is what composed layers ask of libtorch on a GPU, and the CPU never sees.
var onlyOnGPUs = []string{"aten::_flash_attention_forward", "aten::_flash_attention_backward", "aten::_efficient_attention_forward", "aten::_efficient_attention_backward",
	"aten::_scaled_dot_product_efficient_attention", "aten::_scaled_dot_product_efficient_attention_backward", "aten::native_dropout", "aten::native_dropout_backward",
	"aten::_fused_rms_norm", "aten::_fused_rms_norm_backward", "aten::constant_pad_nd", "aten::record_stream", "aten::_fused_adamw_"}

// The operations of a forward and a backward pass, and of the verdict on a step, are those that the file lists, so that it can be held against libtorch's CUDA half, and none of them makes the host wait
// for a GPU.
func TestComposedOperations(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := slices.Clone(onlyOnGPUs)
	for _, bf16 := range []bool{false, true} {
		for _, c := range composedModels {
			dir := filepath.Join("testdata", c.dir)
			g := openGolden(t, filepath.Join(dir, c.golden+".safetensors"))
			err := torch.Do(func(s *torch.Scope) error {
				m, _, grads := loadModel(t, s, dir, c.heads)
				torch.SetBF16(bf16)
				defer torch.SetBF16(false)
				pretend(func() {
					names := torch.Trace(func() {
						loss := s.DeviceZeros(torch.Float32)
						for _, term := range m.Losses(s, g.batchFor(c.heads), Pass{Train: true, LabelSmoothing: 0.1}) {
							loss = s.Add(loss, term.Sum)
						}
						loss.Backward()
						s.Numbers(s.Judge(grads, s.DeviceZeros(torch.Float64), s.DeviceZeros(torch.Float32), 1, 3).Verdict, loss)
					})
					if w := torch.Waits(names); len(w) > 0 {
						t.Errorf("%s: the host would wait at %q", c.dir, w)
					}
					if len(names) < 20 {
						t.Errorf("%s: %d operations", c.dir, len(names))
					}
					all = append(all, names...)
				})
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	slices.Sort(all)
	text := strings.Join(slices.Compact(all), "\n") + "\n"
	const path = "testdata/composed_operations.txt"
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != text {
		t.Errorf("%s is behind; run: go test ./internal/model -run TestComposedOperations -update\n%s", path, text)
	}
}
