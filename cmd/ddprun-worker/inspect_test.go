package main

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// inspect returns the lines of tokens that inspect shows.
func (w *workspace) inspect(args ...string) []string {
	w.t.Helper()
	out, err := worker("", append([]string{"inspect", w.path("train.yaml")}, args...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	var lines []string
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		if rest, ok := strings.CutPrefix(line, "  "); ok {
			lines = append(lines, rest)
		}
	}
	return lines
}

func TestInspect(t *testing.T) {
	w := newWorkspace(t)
	w.write("text.txt", strings.Repeat("The fox runs. It is quick.\n\nA hen sat down.\nNobody saw it.\n\n", 4))
	w.write("train.yaml", w.config("mlm_probability: 0.5", "mask_replace_prob: 1", "random_replace_prob: 0"))
	lines := w.inspect("--samples", "8")
	label := regexp.MustCompile(`\[MASK\]\(([^ ]+)\)`)
	for _, line := range lines {
		text := strings.ReplaceAll(label.ReplaceAllString(line, "$1"), " ##", "")
		if !label.MatchString(line) || text != "[CLS] the fox runs . it is quick . [SEP]" && text != "[CLS] a hen sat down . nobody saw it . [SEP]" {
			t.Errorf("the sample is %q", line)
		}
	}
	if len(lines) != 8 {
		t.Errorf("%d samples", len(lines))
	}
	if again := w.inspect("--samples", "8"); strings.Join(again, "\n") != strings.Join(lines, "\n") {
		t.Error("the second time shows other samples")
	}
	// A sample of which the log tells a number, and a step.
	out, err := worker("", "inspect", w.path("train.yaml"), "--sample", "3", "--set", "mlm_probability=0.001")
	if want := "text.txt, line 8, byte 88 on, document 3 from token 0 on\n| a hen sat down. nobody saw it.\n"; err != nil ||
		!strings.HasPrefix(out, "sample 3 of 8, epoch 0, step ") || !strings.Contains(out, want) {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = worker("", "inspect", w.path("train.yaml"), "--samples", "6", "--set", "objective=sop")
	out = strings.ReplaceAll(out, " ##", "")
	if err != nil || strings.Count(out, ", class ") != 6 || !strings.Contains(out, ", class 1\n| a hen sat down.\n| nobody saw it.\n  [CLS] nobody saw it . [SEP] a hen sat down . [SEP]") ||
		!strings.Contains(out, ", class 0\n| the fox runs.\n| it is quick.\n  [CLS] the fox runs . [SEP] it is quick . [SEP]") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestInspectRefuses(t *testing.T) {
	w := newWorkspace(t)
	w.write("train.yaml", w.config())
	before := w.tree()
	for _, args := range [][]string{{}, {"a", "b"}, {w.path("nowhere.yaml")}, {w.path("train.yaml"), "--samples", "0"}, {w.path("train.yaml"), "--epoch", "-1"},
		{w.path("train.yaml"), "--step", "0"}, {w.path("train.yaml"), "--step", "1", "--epoch", "0"}, {w.path("train.yaml"), "--sample", "0", "--samples", "1"},
		{w.path("train.yaml"), "--lane", "0"}, {w.path("train.yaml"), "--set", "seed=x"}, {w.path("train.yaml"), "--set", "global_batch_size=12"}} {
		_, err := worker("", append([]string{"inspect"}, args...)...)
		w.wantRefused(before, err)
	}
}

// roberta turns the workspace's model into a RoBERTa with its byte-level tokenizer.
func (w *workspace) roberta() {
	w.t.Helper()
	packed, err := os.Open(filepath.Join("../../internal/tokenizer/testdata", "roberta.json.gz"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer packed.Close()
	r, err := gzip.NewReader(packed)
	if err != nil {
		w.t.Fatal(err)
	}
	tokenizer, err := io.ReadAll(r)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.RemoveAll(w.path("model")); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Mkdir(w.path("model"), 0o700); err != nil {
		w.t.Fatal(err)
	}
	var content struct {
		Model struct {
			Vocab map[string]int `json:"vocab"`
		} `json:"model"`
		AddedTokens []struct {
			ID int `json:"id"`
		} `json:"added_tokens"`
	}
	if err := json.Unmarshal(tokenizer, &content); err != nil {
		w.t.Fatal(err)
	}
	size := len(content.Model.Vocab) + len(content.AddedTokens) // some are counted twice: more rows than tokens are normal
	w.write("model/tokenizer.json", string(tokenizer))
	w.write("model/tokenizer_config.json", `{"tokenizer_class": "RobertaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>",
 "sep_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}`)
	w.write("model/config.json", fmt.Sprintf(`{"model_type": "roberta", "architectures": ["RobertaForMaskedLM"], "vocab_size": %d, "hidden_size": 16,
 "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 32, "max_position_embeddings": 34, "type_vocab_size": 1, "pad_token_id": 1}`, size))
}

// Whole words of a byte-level tokenizer are hidden whole, and a RoBERTa trains on them at all of its positions.
func TestRobertaWithWholeWords(t *testing.T) {
	w := newWorkspace(t)
	w.roberta()
	w.write("text.txt", strings.Repeat("Extraordinarily unpronounceable words, such as antidisestablishmentarianism or Überwältigung, are 12345 told.\n\n", 10))
	lines := []string{"whole_word_mask: true", "mlm_probability: 0.4", "mask_replace_prob: 1", "random_replace_prob: 0"}
	w.write("train.yaml", w.config(lines...))
	label := regexp.MustCompile(`^<mask>\((.*)\)$`)
	hidden, open := 0, 0
	for _, line := range w.inspect("--samples", "40") {
		tokens := strings.Fields(line)
		if tokens[0] != "<s>" || tokens[len(tokens)-1] != "</s>" || len(tokens) > 32 {
			t.Fatalf("the sample is %q", line)
		}
		var before bool
		for i, token := range tokens[1 : len(tokens)-1] {
			right := label.FindStringSubmatch(token)
			if right != nil {
				token = right[1]
			}
			letters := regexp.MustCompile(`^[a-zÃÄ¼¤]+$`).MatchString(token) // goes on with a word
			if i > 0 && letters && (right != nil) != before {
				t.Errorf("token %d, %q, is part of a word that is hidden in part: %q", i, token, line)
			}
			if letters && right != nil {
				hidden++
			} else if letters {
				open++
			}
			before = right != nil
		}
	}
	if hidden == 0 || open == 0 {
		t.Errorf("of the tokens inside words %d are hidden and %d are not", hidden, open)
	}
	if _, err := oneRank(t, w.resolved(append(lines, "max_steps: 3", "output_dir: "+w.path("trained"))...), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := worker(w.resolved("max_seq_length: 33"), "check"); err == nil || !strings.Contains(err.Error(), "33 is more than the 32 positions") {
		t.Errorf("33 tokens: %v", err)
	}
}
