package model

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/hf"
)

// Weights of which nothing fits are not taken for those of an encoder whose head is missing.
func TestWeightsOfAnotherModel(t *testing.T) {
	cfg, err := hf.ReadConfig("testdata/bert-gelu")
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(cfg, Heads{Tokens: true})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.safetensors")
	for name, want := range map[string]string{"transformer.wte.weight": "none of its 1 tensors is a parameter of BertForMaskedLM", "embeddings.LayerNorm.gamma": ""} {
		tensor := hf.Tensor{Name: name, DType: hf.F32, Shape: []int64{32}, Data: make([]byte, 128)}
		if err := hf.WriteSafetensors(path, []hf.Tensor{tensor}, nil); err != nil {
			t.Fatal(err)
		}
		w, err := hf.OpenSafetensors(path)
		if err != nil {
			t.Fatal(err)
		}
		err = Check(m, w)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		w.Close()
	}
}

// The values are transformers' for sinusoidal_pos_embds (create_sinusoidal_embeddings) at 8 dimensions.
func TestSinusoidalPositions(t *testing.T) {
	spec := Spec{Name: "positions", Shape: []int64{3, 8}, Init: Init{Std: 1, ZeroRow: -1, Sinusoidal: true}}
	got := make([]float32, spec.Numel())
	spec.initialise(got, 1)
	want := []float64{0, 1, 0, 1, 0, 1, 0, 1,
		0.841471, 0.540302, 0.0998334, 0.995004, 0.00999983, 0.99995, 0.001, 0.999999,
		0.909297, -0.416147, 0.198669, 0.980067, 0.0199987, 0.9998, 0.002, 0.999998}
	for i, x := range got {
		if d := math.Abs(float64(x) - want[i]); !(d <= 1e-6) {
			t.Errorf("row %d, column %d is %v, want %v", i/8, i%8, x, want[i])
		}
	}
}
