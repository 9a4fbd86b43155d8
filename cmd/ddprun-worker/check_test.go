package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/generation"
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

// Where several nodes check the same, one that fails leaves the shards that it has made: another may be using them.
func TestFailedCheckLeavesShardsToOtherNodes(t *testing.T) {
	w := newWorkspace(t)
	w.write("heldout.txt", "gr\xfcn\n")
	cfg := w.resolved("eval_data: " + w.path("heldout.txt"))
	for want, shared := range []string{"--shared=false", "--shared=true"} {
		if _, err := worker(cfg, "check", shared); exitCode(err) != exitInput {
			t.Fatalf("%s: %v", shared, err)
		}
		if made, _ := filepath.Glob(w.path("runs/out/.ddprun/shards/*/index.json")); len(made) != want {
			t.Errorf("%s: %q are left, want %d", shared, made, want)
		}
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

// The digests are the same wherever the same things lie, and differ with what they are of.
func TestCheckSaysWhatNodesCompare(t *testing.T) {
	say := func(w *workspace, args ...string) (sums digests) {
		t.Helper()
		text, err := worker(w.resolved("eval_data: "+w.path("heldout.txt")), append([]string{"check"}, args...)...)
		if err == nil {
			err = json.Unmarshal([]byte(text), &sums)
		}
		if err != nil {
			t.Fatal(err)
		}
		return sums
	}
	base := say(newWorkspace(t))
	if base.Program != version() || base.Model == "" || base.Tokenizer == "" || base.Shards == "" {
		t.Errorf("%+v", base)
	}
	for name, c := range map[string]struct {
		change func(w *workspace)
		differ func(sums *digests) *string
	}{
		"nothing":   {func(*workspace) {}, func(*digests) *string { return new(string) }},
		"model":     {func(w *workspace) { w.write("model/config.json", w.read("model/config.json")+" ") }, func(s *digests) *string { return &s.Model }},
		"eval_data": {func(w *workspace) { w.write("heldout.txt", w.read("text.txt")+"One more fox.\n") }, func(s *digests) *string { return &s.Shards }},
		"data":      {func(w *workspace) { w.write("text.txt", w.read("text.txt")+"One more fox.\n") }, func(s *digests) *string { return &s.Shards }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorkspace(t)
			c.change(w)
			changed := say(w, "--dry-run")
			if name != "nothing" && *c.differ(&changed) == *c.differ(&base) {
				t.Errorf("%+v is not told from %+v", changed, base)
			}
			*c.differ(&changed) = *c.differ(&base)
			if changed != base {
				t.Errorf("%+v, want %+v", changed, base)
			}
		})
	}
}

func TestModelDigest(t *testing.T) {
	seen := map[string]string{}
	for name, files := range map[string]map[string]string{
		"none":      {"config.json": "{}"},
		"weights":   {"config.json": "{}", "model.safetensors": "abc"},
		"others":    {"config.json": "{}", "model.safetensors": "abd"},
		"two":       {"config.json": "{}", "model-1.safetensors": "abc", "model-2.safetensors": ""},
		"two more":  {"config.json": "{}", "model-1.safetensors": "", "model-2.safetensors": "abc"},
		"large":     {"config.json": "{}", "model.safetensors": strings.Repeat("x", 3*edgeBytes)},
		"end":       {"config.json": "{}", "model.safetensors": strings.Repeat("x", 3*edgeBytes-1) + "y"},
		"longer":    {"config.json": "{}", "model.safetensors": strings.Repeat("x", 3*edgeBytes+1)},
		"beginning": {"config.json": "{}", "model.safetensors": "y" + strings.Repeat("x", 3*edgeBytes-1)},
	} {
		dir := t.TempDir()
		for file, text := range files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		sum, err := modelDigest(dir)
		if err != nil {
			t.Fatal(err)
		}
		if other, found := seen[sum]; found {
			t.Errorf("%s is not told from %s", name, other)
		}
		seen[sum] = name
		if err := os.WriteFile(filepath.Join(dir, "README.md"), []byte("hello"), 0o666); err != nil {
			t.Fatal(err)
		}
		if again, err := modelDigest(dir); err != nil || again != sum {
			t.Errorf("%s: a file that is no part of the model changes it (%v)", name, err)
		}
	}
}

// A node that comes while the run goes on finds checkpoints there, and is not in its way.
func TestCheckOfARunThatGoesOn(t *testing.T) {
	w := newWorkspace(t)
	if _, err := oneRank(t, w.resolved("max_steps: 2"), nil); err != nil {
		t.Fatal(err)
	}
	if err := generation.Begin(w.path("runs/out"), 5, 2, generation.Run{ID: "night", Agents: []string{"0-a"}}); err != nil {
		t.Fatal(err)
	}
	cfg := w.resolved("max_steps: 4", "resume_from_checkpoint: none")
	if _, err := worker(cfg, "check", "--run-id", "day"); exitCode(err) != exitInput || !strings.Contains(err.Error(), "holds a run") {
		t.Errorf("another run: %v", err)
	}
	if _, err := worker(cfg, "check", "--run-id", "night"); err != nil {
		t.Error(err)
	}
}
