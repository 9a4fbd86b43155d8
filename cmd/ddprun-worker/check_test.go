package main

import (
	"os"
	"strings"
	"testing"
)

func TestCheckPreparesTheText(t *testing.T) {
	w := newWorkspace(t)
	cfg := w.resolved("eval_data: " + w.path("heldout.txt"))
	before := w.tree()
	if _, err := worker(cfg, "check", "--dry-run"); err != nil {
		t.Fatal(err)
	}
	if after := w.tree(); after != before {
		t.Errorf("a dry run left something:\nbefore:\n%safter:\n%s", before, after)
	}
	if _, err := worker(cfg, "check"); err != nil {
		t.Fatal(err)
	}
	prepared := w.tree()
	if !strings.Contains(prepared, w.path("runs/out/.ddprun/shards")) {
		t.Fatalf("no shards:\n%s", prepared)
	}
	if _, err := worker(cfg, "check", "--nproc", "1"); err != nil {
		t.Fatal(err)
	}
	if after := w.tree(); after != prepared {
		t.Errorf("a second check changed something:\nbefore:\n%safter:\n%s", prepared, after)
	}
}

func TestCheckRefuses(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(w *workspace)
		lines   []string
		args    []string
		said    []string
	}{
		{name: "more ranks than lanes", lines: []string{"global_batch_size: 8", "per_device_train_batch_size: 8"}, args: []string{"--nproc", "2"}, said: []string{"global_batch_size"}},
		{name: "device", lines: []string{"device: cuda"}, said: []string{"device: cuda"}},
		{name: "backend", lines: []string{"backend: nccl"}, said: []string{"backend: nccl", "gloo"}},
		{name: "no two sentences", lines: []string{"objective: nsp"}, said: []string{"text.txt", "no document has two sentences", "text_unit"}},
		{name: "one document", lines: []string{"objective: nsp", "text_unit: file", "sentence_unit: line"}, said: []string{"text.txt", "one document", "nsp_negatives: any"}},
		{name: "a pair that does not fit", lines: []string{"objective: sop", "text_unit: file", "sentence_unit: line", "max_seq_length: 4"}, said: []string{"max_seq_length: 4"}},
		{name: "no head", prepare: func(w *workspace) {
			w.write("model/config.json", `{"model_type": "roberta", "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 32}`)
		}, lines: []string{"objective: mlm+nsp"}, said: []string{"no head for pairs", "bert has one"}},
		{name: "no model", prepare: func(w *workspace) { os.RemoveAll(w.path("model")) }, said: []string{"model"}},
		{name: "no tokenizer", prepare: func(w *workspace) { os.Remove(w.path("model/tokenizer.json")); os.Remove(w.path("model/vocab.txt")) }, said: []string{"tokenizer.json"}},
		{name: "weights", prepare: func(w *workspace) { w.write("model/model.safetensors", "short") }, said: []string{"model.safetensors"}},
		{name: "too long", lines: []string{"max_seq_length: 129"}, said: []string{"max_seq_length: 129", "128"}},
		{name: "no room", lines: []string{"max_seq_length: 2"}, said: []string{"max_seq_length: 2"}},
		{name: "no text", lines: []string{"data: nowhere.txt"}, said: []string{"nowhere.txt"}},
		{name: "empty text", prepare: func(w *workspace) { w.write("text.txt", "\n\n") }, said: []string{"text.txt"}},
		{name: "held-out text, after the other was prepared", prepare: func(w *workspace) { w.write("heldout.txt", "gr\xfcn\n") },
			lines: []string{"eval_data: HELDOUT"}, said: []string{"heldout.txt", "encoding_errors"}},
		{name: "no full step, after both were prepared", lines: []string{"eval_data: HELDOUT", "dataloader_drop_last: true", "global_batch_size: 4096"}, said: []string{"dataloader_drop_last"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorkspace(t)
			if c.prepare != nil {
				c.prepare(w)
			}
			for i, line := range c.lines {
				c.lines[i] = strings.ReplaceAll(line, "HELDOUT", w.path("heldout.txt"))
			}
			for _, there := range []string{"", "runs/out/.ddprun/shards"} { // what was there before stays
				if there != "" {
					if err := os.MkdirAll(w.path(there), 0o700); err != nil {
						t.Fatal(err)
					}
				}
				cfg := w.resolved(c.lines...)
				before := w.tree()
				_, err := worker(cfg, append([]string{"check"}, c.args...)...)
				w.wantRefused(before, err, c.said...)
			}
		})
	}
}

func TestCheckRefusesWhatIsNoConfiguration(t *testing.T) {
	w := newWorkspace(t)
	before := w.tree()
	for _, stdin := range []string{"", "{", "{}", `{"model": "x"}`, "null"} {
		_, err := worker(stdin, "check")
		w.wantRefused(before, err, "configuration as JSON")
	}
	_, err := worker("{}", "check", "--nproc", "x")
	w.wantRefused(before, err, "nproc")
}
