package model

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/torch"
)

// Sizes that no model has are refused before anything is made of them: parameters are listed and multiplied before the weights, which
// would show the mistake, are looked at.
func TestSizesOutOfRange(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ config, want string }{
		{`"num_hidden_layers": 1000000000`, "num_hidden_layers is 1000000000; it must be at most 4096"},
		{`"num_hidden_layers": -1`, "num_hidden_layers is -1; it must be at least 0"},
		{`"hidden_size": 1099511627776`, "hidden_size is 1099511627776; it must be at most"},
		{`"hidden_size": 0`, "hidden_size is 0; it must be at least 1"},
		{`"vocab_size": 9007199254740992`, "vocab_size is 9007199254740992; it must be at most"},
		{`"max_position_embeddings": 4611686018427387904`, "max_position_embeddings is"},
		{`"intermediate_size": -5`, "intermediate_size is -5; it must be at least 1"},
		{`"vocab_size": 100, "pad_token_id": 100`, "pad_token_id is 100; it must be at most 99"},
		{`"num_attention_heads": 5`, "hidden_size 768 is not a multiple of num_attention_heads 5"},
		{`"num_hidden_layers": 0`, ""},
	} {
		path := filepath.Join(dir, "config.json")
		if err := os.WriteFile(path, []byte(`{"model_type": "bert", `+c.config+`}`), 0o666); err != nil {
			t.Fatal(err)
		}
		cfg, err := hf.ReadConfig(dir)
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(cfg, Heads{Tokens: true})
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%s: %v, want %q", c.config, err, c.want)
		}
	}
}

// DistilBERT drops nothing from attention's output, where BERT does. Where nearly everything else is dropped, every token is 0 until attention
// adds its biases, so a last hidden state is LayerNorm(LayerNorm(Wo bv + bo)).
func TestDistilBertDropsNothingFromAttention(t *testing.T) {
	const dir = "testdata/distilbert"
	g := openGolden(t, dir+"/golden.safetensors")
	err := torch.Do(func(s *torch.Scope) error {
		m, _, _ := loadModel(t, s, dir, Heads{Tokens: true})
		b := m.(*bert)
		b.c.layers, b.c.hiddenDropout, b.c.attentionDropout = 1, 1-1e-9, 0
		param := func(name string) []float32 { return b.params["distilbert."+name].Float32s() }
		got := b.encode(s, g.batch(""), Pass{Train: true, Dropout: torch.DropoutKey{Seed: 1}}, nil).Float32s()

		const layer = "transformer.layer.0."
		h := b.c.hidden
		want := make([]float64, h)
		for i := range want {
			want[i] = float64(param(layer + "attention.out_lin.bias")[i])
			for k, v := range param(layer + "attention.v_lin.bias") {
				want[i] += float64(param(layer + "attention.out_lin.weight")[i*h+k]) * float64(v)
			}
		}
		for _, name := range []string{"sa_layer_norm", "output_layer_norm"} {
			want = layerNorm(want, param(layer+name+".weight"), param(layer+name+".bias"))
		}
		for i, x := range got {
			if d := math.Abs(float64(x) - want[i%h]); !(d <= 1e-4) {
				t.Fatalf("token %d, element %d is %v, want %v", i/h, i%h, x, want[i%h])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func layerNorm(x []float64, w, b []float32) []float64 {
	mean, variance := 0.0, 0.0
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		variance += (v - mean) * (v - mean) / float64(len(x))
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = (v-mean)/math.Sqrt(variance+1e-12)*float64(w[i]) + float64(b[i])
	}
	return out
}
