package main

import (
	"strings"
	"testing"
)

// With group_texts a sample goes on over documents; the separators between them are never hidden nor predicted, and the run trains.
func TestGroupTexts(t *testing.T) {
	w := newWorkspace(t)
	w.write("text.txt", strings.Repeat("The fox runs.\n\nA hen sat down.\n\n", 30))
	w.write("train.yaml", w.config("mlm_probability: 1", "group_texts: true", "mask_replace_prob: 1", "random_replace_prob: 0", "max_seq_length: 24"))
	lines := w.inspect("--samples", "100")
	between := 0
	for _, line := range lines {
		inside := strings.TrimSuffix(strings.TrimPrefix(line, "[CLS] "), " [SEP]")
		between += strings.Count(inside, "[SEP]")
		if strings.Contains(line, "[SEP](") || strings.Contains(line, "([SEP])") || strings.HasPrefix(inside, "[SEP]") || strings.HasSuffix(inside, "[SEP]") {
			t.Errorf("the sample is %q", line)
		}
		for _, token := range strings.Fields(inside) {
			if token != "[SEP]" && !strings.HasPrefix(token, "[MASK](") {
				t.Errorf("with mlm_probability 1, %q is seen in %q", token, line)
			}
		}
	}
	if len(lines) == 0 || len(lines) >= 60 || between < 20 {
		t.Errorf("%d samples of 60 documents with %d separators", len(lines), between)
	}
	if _, err := oneRank(t, w.resolved("max_steps: 2", "group_texts: true", "per_device_train_batch_size: 0", "per_device_train_tokens: 200", "sample_log: true"), nil); err != nil {
		t.Error(err)
	}
}
