package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/test/kit"
)

// textModelSource is a random T5 v1.1 of 2 layers and 24 dimensions, with dropout 0.1 and 89 tokens.
const textModelSource = "../../internal/model/testdata/t5-v1.1"

// newTextWorkspace is newWorkspace with a T5 and its tokenizer.
func newTextWorkspace(t testing.TB, documents int) *workspace {
	t.Helper()
	w := newWorkspace(t, documents)
	if err := os.RemoveAll(w.path("model")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"config.json", "generation_config.json", "model.safetensors"} {
		w.write("model/"+name, readFile(t, filepath.Join(textModelSource, name)))
	}
	w.write("model/tokenizer.json", unigram(t))
	w.write("model/tokenizer_config.json",
		`{"tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "extra_ids": 19}`)
	return w
}

// unigram is a tokenizer.json as T5's: letters, the 40 words with the sign for a space before them, and sentinels from the end down.
func unigram(t testing.TB) string {
	t.Helper()
	type added struct {
		ID         int    `json:"id"`
		Content    string `json:"content"`
		SingleWord bool   `json:"single_word"`
		LStrip     bool   `json:"lstrip"`
		RStrip     bool   `json:"rstrip"`
		Normalized bool   `json:"normalized"`
		Special    bool   `json:"special"`
	}
	var vocab [][2]any
	var extra []added
	special := func(content string) {
		extra = append(extra, added{ID: len(vocab), Content: content, Special: true})
		vocab = append(vocab, [2]any{content, 0})
	}
	special("<pad>")
	special("</s>")
	special("<unk>")
	vocab = append(vocab, [2]any{"▁", -3})
	for c := 'a'; c <= 'z'; c++ {
		vocab = append(vocab, [2]any{string(c), -6})
	}
	for i := range 40 {
		vocab = append(vocab, [2]any{"▁" + kit.Word(i), -4})
	}
	for i := 88 - len(vocab); i >= 0; i-- {
		special(fmt.Sprintf("<extra_id_%d>", i))
	}
	metaspace := map[string]any{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(map[string]any{"version": "1.0", "added_tokens": extra, "pre_tokenizer": metaspace, "decoder": metaspace,
		"model": map[string]any{"type": "Unigram", "unk_id": 2, "vocab": vocab, "byte_fallback": false}}); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// A T5 gives sentences back, and spans, the same at 1, 2, 3 and 4 ranks; its evaluation decodes; a run that is made longer goes on with the same
// samples; what is saved names its class.
func TestText2TextAtAnyNumberOfRanks(t *testing.T) {
	t.Parallel()
	for objective, changes := range map[string]settings{
		"reconstruction":  {"sentence_unit": "line", "text_unit": "file", "sample_unit": nil},
		"span_corruption": {"text_unit": "file", "sample_unit": "window", "max_seq_length": 24},
	} {
		t.Run(objective, func(t *testing.T) {
			const steps = 12
			w := newTextWorkspace(t, 29)
			changes["objective"], changes["max_steps"], changes["save_steps"] = objective, steps, 5
			changes["eval_data"], changes["eval_steps"] = "heldout.txt", steps
			want := w.sameOnRanks(changes, steps, 1e-6, 1, 2, 3, 4)
			if *want[steps-1].Loss >= *want[0].Loss {
				t.Errorf("the loss is %v after %v", *want[steps-1].Loss, *want[0].Loss)
			}
			evaluations := 0
			for line := range strings.Lines(w.read("out2/metrics.jsonl")) {
				entry := map[string]any{}
				if err := json.Unmarshal([]byte(line), &entry); err != nil {
					t.Fatal(err)
				}
				if entry["eval_loss"] == nil {
					continue
				}
				evaluations++
				accuracy, ok := entry["eval_token_accuracy"].(float64)
				exact, ok2 := entry["eval_exact_match"].(float64)
				if !ok || !ok2 || accuracy < 0 || accuracy > 1 || exact > accuracy {
					t.Errorf("the evaluation says %s", line)
				}
			}
			if evaluations != 2 {
				t.Errorf("%d evaluations", evaluations)
			}

			changes["output_dir"], changes["max_steps"] = "resumed", 5
			w.config("train.yaml", changes)
			w.run("--nproc", "2", "train.yaml").want(t, 0)
			changes["max_steps"] = steps
			w.config("train.yaml", changes)
			w.run("--nproc", "2", "train.yaml").want(t, 0)
			for i, again := range w.steps("resumed", steps) {
				if again.Tokens != want[i].Tokens {
					t.Errorf("step %d of the resumed run has seen %d tokens, want %d", i+1, again.Tokens, want[i].Tokens)
				}
			}
			if !strings.Contains(w.read("out1/config.json"), `"T5ForConditionalGeneration"`) {
				t.Error("the saved model does not name its class")
			}

			shown := w.run("inspect", "--samples", "3", "train.yaml")
			shown.want(t, 0)
			if arrows := strings.Count(shown.out, "\n  -> "); arrows != 3 || !strings.Contains(shown.out, "</s>") {
				t.Errorf("inspect shows %s", shown.out)
			}
			if objective == "span_corruption" && !strings.Contains(shown.out, "-> <extra_id_0> ") {
				t.Errorf("the first sentinel is another one: %s", shown.out)
			}
			evaluated := w.run("eval", "out1", "--data", "heldout.txt", "--set", "objective="+objective, "--set", "sentence_unit=line", "--predictions", "said.jsonl")
			evaluated.want(t, 0)
			var answer struct {
				Loss     float64 `json:"loss"`
				Targets  int64   `json:"target_tokens"`
				Decoded  int64   `json:"decoded_samples"`
				Accuracy float64 `json:"token_accuracy"`
			}
			if err := json.Unmarshal([]byte(evaluated.out), &answer); err != nil || answer.Loss <= 0 || answer.Targets < 11 || answer.Decoded < 1 {
				t.Errorf("eval says %s (%v)", evaluated.out, err)
			}
			var line struct{ Read, Want, Wrote string }
			first, _, _ := strings.Cut(w.read("said.jsonl"), "\n")
			if err := json.Unmarshal([]byte(first), &line); err != nil || !strings.HasSuffix(line.Want, "</s>") || line.Read == "" {
				t.Errorf("the first prediction is %s (%v)", first, err)
			}
		})
	}
}

// A tokenizer whose first word of a text has other tokens: moved words are encoded again, the same at any number of ranks.
func TestWordsAreEncodedAgain(t *testing.T) {
	t.Parallel()
	w := newTextWorkspace(t, 29)
	w.write("model/tokenizer.json", strings.ReplaceAll(w.read("model/tokenizer.json"), `"always"`, `"never"`))
	changes := settings{"objective": "reconstruction", "perturbation": "mask", "max_steps": 6, "eval_data": "heldout.txt", "eval_steps": 6}
	w.sameOnRanks(changes, 6, 1e-6, 1, 2)
	// A sample's first word is spelt out; as the first of what is read, so is another one.
	shown := w.run("inspect", "--samples", "8", "train.yaml")
	shown.want(t, 0)
	for line := range strings.Lines(shown.out) {
		tokens := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "->"))
		if !strings.Contains(line, "</s>") || len(tokens) == 0 {
			continue
		}
		if first := tokens[0]; len(first) != 1 && first != "<extra_id_0>" {
			t.Errorf("a text begins with %q: %s", first, line)
		}
	}
}

// What cannot be trained as text to text is refused before anything is written.
func TestBadText2Text(t *testing.T) {
	without := func(old, new string) func(*workspace) {
		return func(w *workspace) {
			text := w.read("model/tokenizer.json")
			if !strings.Contains(text, old) {
				w.t.Fatalf("the tokenizer does not say %s", old)
			}
			w.write("model/tokenizer.json", strings.ReplaceAll(text, old, new))
		}
	}
	for _, bad := range []badInput{
		{name: "mlm on a T5", set: settings{"objective": "mlm"}, said: []string{"t5", "no head for masked tokens"}},
		{name: "nsp on a T5", set: settings{"objective": "nsp", "text_unit": "file", "sample_unit": nil}, said: []string{"t5", "pairs"}},
		{name: "no sentinels", set: settings{"objective": "span_corruption"}, prepare: without("<extra_id_", "<other_id_"), said: []string{"sentinel", "<extra_id_0>"}},
		{name: "nothing to mask with", set: settings{"objective": "reconstruction", "perturbation": "mask"}, prepare: without("<extra_id_", "<other_id_"),
			said: []string{"perturbation", "no mask token"}},
		{name: "nothing left", set: settings{"objective": "reconstruction", "perturbation_probability": 1}, said: []string{"perturbation_probability", "leave nothing"}},
		{name: "an order for spans", set: settings{"objective": "span_corruption", "word_order": "keep"}, said: []string{"word_order", "reconstruction"}},
		{name: "one token a sample", set: settings{"objective": "span_corruption"}, prepare: write("text.txt", "ban\nben\n"), said: []string{"text.txt", "span_corruption"}},
	} {
		t.Run(bad.name, func(t *testing.T) { bad.refused(t, newTextWorkspace) })
	}
	t.Run("reconstruction on a BERT", func(t *testing.T) {
		t.Parallel()
		w := newWorkspace(t, 33)
		w.config("train.yaml", settings{"objective": "reconstruction"})
		w.refused([]string{"bert", "no decoder", "t5"}, "--nproc", "2", "train.yaml")
	})
}
