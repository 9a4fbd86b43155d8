package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
)

// A run is never overwritten unasked, and goes on only as what it was.
func TestExistingRun(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, 33)
	w.config("train.yaml", settings{"max_steps": 6, "save_steps": 3})
	w.run("--nproc", "2", "train.yaml").want(t, 0)

	for _, key := range []struct {
		set  settings
		said []string
	}{
		{settings{"learning_rate": 2e-3}, []string{"learning_rate", "0.001", "0.002"}},
		{settings{"seed": 7, "mlm_probability": 0.2}, []string{"seed", "42", "7", "mlm_probability", "0.15", "0.2"}},
		{settings{"global_batch_size": 16}, []string{"global_batch_size", "8", "16"}},
		{settings{"max_seq_length": 30}, []string{"max_seq_length", "0", "30"}},
		{settings{"data": "heldout.txt"}, []string{"data", "text.txt", "heldout.txt"}},
		{settings{"resume_from_checkpoint": "none"}, []string{"output_dir", "holds a run", "overwrite_output_dir: true"}},
	} {
		set := settings{"max_steps": 8, "save_steps": 3}
		maps.Copy(set, key.set)
		w.config("changed.yaml", set)
		w.refused(key.said, "--nproc", "2", "changed.yaml")
	}
	text := w.read("text.txt")
	w.write("text.txt", text+"ban\n")
	w.refused([]string{"out/checkpoint-6", "data", "changed"}, "--nproc", "2", "train.yaml")
	w.write("text.txt", text)
	tokens := w.read("model/vocab.txt")
	w.write("model/vocab.txt", strings.Replace(tokens, "\nban\n", "\nbanana\n", 1))
	w.refused([]string{"out/checkpoint-6", "tokenizer", "changed"}, "--nproc", "2", "train.yaml")
	w.write("model/vocab.txt", tokens)

	changed := settings{"max_steps": 8, "save_steps": 4, "save_total_limit": 1, "eval_data": "heldout.txt", "threads_per_rank": 2}
	w.config("longer.yaml", changed)
	w.run("--nproc", "1", "longer.yaml").want(t, 0, "max_steps", "schedule is computed again", "save_steps", "eval_data", "ranks: 2 then, 1 now")
	w.steps("out", 8)

	w.config("anew.yaml", settings{"max_steps": 2, "learning_rate": 2e-3, "resume_from_checkpoint": "none", "overwrite_output_dir": true})
	w.run("--nproc", "2", "anew.yaml").want(t, 0, "deleting")
	w.steps("out", 2)
}

// A second run in an output_dir is refused while the first one is under way, whose end is as if nothing had been.
func TestTwoRunsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, 33)
	w.config("train.yaml", settings{"max_steps": 1000000})
	w.config("anew.yaml", settings{"max_steps": 2, "resume_from_checkpoint": "none", "overwrite_output_dir": true})
	first := w.start("train.yaml")
	first.until("a step", func() bool { return strings.Contains(first.err.String(), "step=1 ") })
	for _, config := range []string{"train.yaml", "anew.yaml"} {
		w.run(config).want(t, 78, "out", "in use", fmt.Sprintf("pid %d", first.cmd.Process.Pid))
	}
	first.signal(os.Interrupt)
	first.wait().want(t, 75, "checkpoint saved")
}

// A damaged checkpoint is passed over for the one before; where none is left, the run says so and does not begin anew.
func TestDamagedCheckpoint(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, 33)
	w.config("train.yaml", settings{"max_steps": 6, "save_steps": 3})
	w.run("train.yaml").want(t, 0)
	whole := w.read("out/model.safetensors")
	damage := func(step int) {
		name := fmt.Sprintf("out/checkpoint-%d/optimizer.safetensors", step)
		content := []byte(w.read(name))
		content[len(content)-5] ^= 1
		w.write(name, string(content))
	}
	damage(6)
	w.run("train.yaml").want(t, 0, "out/checkpoint-6", "optimizer.safetensors", "passed over")
	if w.read("out/model.safetensors") != whole {
		t.Error("the run that went on from checkpoint-3 ended elsewhere")
	}
	damage(3)
	damage(6)
	w.refused([]string{"out/checkpoint-3", "out/checkpoint-6", "overwrite_output_dir: true"}, "train.yaml")
}

// What config.json and the model's directory hold beside what ddprun understands is in what it writes.
func TestUnknownFieldsAndFilesAreKept(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, 33)
	var config map[string]any
	if err := json.Unmarshal([]byte(w.read("model/config.json")), &config); err != nil {
		t.Fatal(err)
	}
	config["of_tomorrow"] = map[string]any{"depth": []any{1.5, "x", nil}}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	w.write("model/config.json", string(text))
	for _, name := range []string{"special_tokens_map.json", "chat_template.jinja", "notes/README.md", "added_tokens.json"} {
		w.write("model/"+name, "{}")
	}
	w.config("train.yaml", settings{"max_steps": 2})
	w.run("train.yaml").want(t, 0)
	for _, dir := range []string{"out", "out/checkpoint-2"} {
		var got map[string]any
		if err := json.Unmarshal([]byte(w.read(dir+"/config.json")), &got); err != nil {
			t.Fatal(err)
		}
		for key, value := range config {
			if fmt.Sprint(got[key]) != fmt.Sprint(value) {
				t.Errorf("%s/config.json: %s is %v, was %v", dir, key, got[key], value)
			}
		}
		for _, name := range []string{"special_tokens_map.json", "chat_template.jinja", "notes/README.md", "added_tokens.json", "vocab.txt", "tokenizer_config.json"} {
			if w.read(dir+"/"+name) != w.read("model/"+name) {
				t.Errorf("%s/%s is not the model's", dir, name)
			}
		}
	}
}
