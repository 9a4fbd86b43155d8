package model

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/hf"
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
