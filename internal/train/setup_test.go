package train

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCheck(t *testing.T) {
	for _, c := range []struct{ max, want int }{{0, 40}, {17, 17}, {40, 40}} {
		if got, err := Check(goldenModel, c.max, 97); got != c.want || err != nil {
			t.Errorf("max_seq_length %d: %d tokens, %v", c.max, got, err)
		}
	}
	stray := modelCopy(t)
	if err := os.Rename(filepath.Join(stray, "model.safetensors"), filepath.Join(stray, "adapter.safetensors")); err != nil {
		t.Fatal(err)
	}
	other := modelCopy(t, `"hidden_size": 32`, `"hidden_size": 36`)
	gpt := t.TempDir()
	writeFile(t, filepath.Join(gpt, "config.json"), `{"model_type": "gpt2"}`)
	for _, bad := range []struct {
		dir   string
		max   int
		vocab int
		said  []string
	}{
		{goldenModel, 41, 97, []string{"max_seq_length", "41", "40"}},
		{goldenModel, 0, 98, []string{"ids up to 97", "97 rows"}},
		{filepath.Join(gpt, "nothing"), 0, 97, []string{"nothing"}},
		{gpt, 0, 97, []string{"gpt2", "bert"}},
		{stray, 0, 97, []string{"no weights", "model.safetensors"}},
		{other, 0, 97, []string{"model.safetensors", "32", "36"}},
	} {
		_, err := Check(bad.dir, bad.max, bad.vocab)
		wantKind(t, err, ErrInput, bad.said...)
	}
	if err := os.Remove(filepath.Join(stray, "adapter.safetensors")); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(stray, 0, 90); err != nil {
		t.Errorf("a model without weights: %v", err)
	}
}

// A directory whose name a pattern would misread has its weights found.
func TestWeightsInADirectoryWithBrackets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "[v1]")
	if err := os.Rename(modelCopy(t), dir); err != nil {
		t.Fatal(err)
	}
	w, err := openWeights(dir)
	if err != nil || w == nil {
		t.Fatalf("%v, %v", w, err)
	}
	w.Close()
}
