package train

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestCheck(t *testing.T) {
	for _, c := range []struct{ max, want int }{{0, 40}, {17, 17}, {40, 40}} {
		got, err := Check(settings(t, goldenModel, fmt.Sprint("max_seq_length=", c.max)), 97)
		if want := (Limits{MaxTokens: c.want}); got != want || err != nil {
			t.Errorf("max_seq_length %d: %+v, %v", c.max, got, err)
		}
	}
	// The first position after the padding token's is 2, of 42.
	if got, err := Check(settings(t, "../model/testdata/roberta"), 97); err != nil || got != (Limits{MaxTokens: 40, PositionOffset: 2}) {
		t.Errorf("RoBERTa: %+v, %v", got, err)
	}
	for _, objective := range []string{"nsp", "sop", "mlm+nsp", "mlm+sop"} {
		if _, err := Check(settings(t, goldenModel, "objective="+objective), 97); err != nil {
			t.Errorf("%s of a BERT whose checkpoint has no such head: %v", objective, err)
		}
		_, err := Check(settings(t, "../model/testdata/roberta", "objective="+objective), 97)
		wantKind(t, err, ErrInput, "roberta", "no head for pairs", "bert has one")
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
		_, err := Check(settings(t, bad.dir, fmt.Sprint("max_seq_length=", bad.max)), bad.vocab)
		wantKind(t, err, ErrInput, bad.said...)
	}
	if err := os.Remove(filepath.Join(stray, "adapter.safetensors")); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(settings(t, stray), 90); err != nil {
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
