package model

import (
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
