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

func TestLayerwise(t *testing.T) {
	r := oneRank(t, newJob(t, settings(t, "../model/testdata/bert-mlm-nsp", "objective=mlm+nsp"), 8))
	want := map[string]float64{
		"bert.embeddings.word_embeddings.weight":           0.125,
		"bert.embeddings.LayerNorm.bias":                   0.125,
		"bert.encoder.layer.0.attention.self.query.weight": 0.25,
		"bert.encoder.layer.1.output.LayerNorm.weight":     0.5,
		"bert.pooler.dense.weight":                         1,
		"cls.predictions.transform.dense.bias":             1,
		"cls.seq_relationship.weight":                      1,
	}
	specs := r.model.Specs()
	for i, scale := range layerwise(specs, 0.5) {
		if x, asked := want[specs[i].Name]; asked && x != scale {
			t.Errorf("%s: %v, want %v", specs[i].Name, scale, x)
		}
		delete(want, specs[i].Name)
	}
	if len(want) > 0 {
		t.Errorf("the model lacks %v", want)
	}
	for i, scale := range layerwise(specs, 1) {
		if scale != 1 {
			t.Errorf("%s: %v without decay", specs[i].Name, scale)
		}
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
