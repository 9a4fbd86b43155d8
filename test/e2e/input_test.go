package e2e

import (
	"encoding/binary"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/test/kit"
)

// badInput is input that is refused before anything starts.
type badInput struct {
	name    string
	prepare func(w *workspace) // spoils the workspace; may be nil
	set     settings           // changes to train.yaml
	args    []string           // instead of train.yaml alone
	said    []string           // parts of the message: which file or key, and what is wrong
}

var badConfigurations = []badInput{
	{name: "no file", args: []string{"nowhere.yaml"}, said: []string{"nowhere.yaml", "no such file"}},
	{name: "no YAML", prepare: func(w *workspace) { w.write("bad.yaml", "model: [model\ndata: text.txt\n") }, args: []string{"bad.yaml"},
		said: []string{"bad.yaml:", "yaml"}},
	{name: "binary", prepare: func(w *workspace) { w.write("bad.yaml", "\x00\xff\xfe") }, args: []string{"bad.yaml"}, said: []string{"bad.yaml"}},
	{name: "unknown key", set: settings{"learning_rat": 1}, said: []string{"train.yaml:", "learning_rat", "learning_rate"}},
	{name: "wrong type", set: settings{"max_steps": "many"}, said: []string{"train.yaml:", "max_steps", "many"}},
	{name: "nproc 0", args: []string{"--nproc", "0", "train.yaml"}, said: []string{"nproc", "0"}},
	{name: "nproc below 0", args: []string{"--nproc", "-1", "train.yaml"}, said: []string{"nproc", "-1"}},
	{name: "nproc no number", args: []string{"--nproc", "two", "train.yaml"}, said: []string{"nproc", "two"}},
	{name: "nproc beyond all machines", set: settings{"global_batch_size": nil}, args: []string{"--nproc", "2000", "train.yaml"},
		said: []string{"nproc", "2000"}},
	{name: "more ranks than lanes", args: []string{"--nproc", "5", "train.yaml"}, said: []string{"global_batch_size", "5", "4"}},
	{name: "device", set: settings{"device": "cuda"}, said: []string{"device", "cuda", "cpu"}},
	{name: "sentences by another name", set: settings{"sentence_unit": "punctuation"}, said: []string{"sentence_unit", "auto", "line"}},
	{name: "output_dir is a file", set: settings{"output_dir": "text.txt"}, said: []string{"output_dir", "text.txt", "file"}},
	{name: "output_dir is a link that leads nowhere", prepare: func(w *workspace) {
		if err := os.Symlink("nowhere", w.path("link")); err != nil {
			w.t.Fatal(err)
		}
	}, set: settings{"output_dir": "link/run"}, said: []string{"train.yaml:", "output_dir", "link", "leads nowhere"}},
	{name: "log directory is a file", args: []string{"--log-dir", "text.txt", "train.yaml"}, said: []string{"--log-dir", "text.txt", "file"}},
	{name: "no such checkpoint", set: settings{"resume_from_checkpoint": "nowhere"}, said: []string{"resume_from_checkpoint", "nowhere"}},
}

var badModels = []badInput{
	{name: "no model", set: settings{"model": "nowhere"}, said: []string{"model", "nowhere", "does not exist"}},
	{name: "no config.json", prepare: remove("model/config.json"), said: []string{"model", "config.json"}},
	{name: "config.json no JSON", prepare: write("model/config.json", "{"), said: []string{"model/config.json"}},
	{name: "architecture", prepare: write("model/config.json", `{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}`),
		said: []string{"model/config.json", "gpt2", "BertForMaskedLM"}},
	{name: "truncated weights", prepare: func(w *workspace) {
		w.write("model/model.safetensors", w.read("model/model.safetensors")[:5000])
	}, said: []string{"model/model.safetensors"}},
	{name: "header longer than the file", prepare: safetensors(1<<20, `{}`), said: []string{"model/model.safetensors", "header"}},
	{name: "header of more than 100 MB", prepare: safetensors(101<<20, `{}`), said: []string{"model/model.safetensors", "header"}},
	{name: "header no JSON", prepare: safetensors(2, `{{`), said: []string{"model/model.safetensors"}},
	{name: "offset out of range", prepare: tensors(`{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}`, 8),
		said: []string{"model/model.safetensors", `a`, "16"}},
	{name: "offset overflows", prepare: tensors(`{"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 18446744073709551615]}}`, 8),
		said: []string{"model/model.safetensors", "a"}},
	{name: "overlapping tensors", prepare: tensors(`{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
 "b": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}}`, 24), said: []string{"model/model.safetensors", "b"}},
	{name: "wrong size of a dtype", prepare: tensors(`{"a": {"dtype": "F16", "shape": [4], "data_offsets": [0, 16]}}`, 16),
		said: []string{"model/model.safetensors", "a", "16"}},
	{name: "index names a file outside", prepare: func(w *workspace) {
		outside(w)
		w.write("model/model.safetensors.index.json", `{"weight_map": {"cls.predictions.bias": "../outside.safetensors"}}`)
	}, said: []string{"model/model.safetensors.index.json", "../outside.safetensors"}},
	{name: "index names a link that leads outside", prepare: func(w *workspace) {
		outside(w)
		if err := os.Symlink("../outside.safetensors", w.path("model/inside.safetensors")); err != nil {
			w.t.Fatal(err)
		}
		w.write("model/model.safetensors.index.json", `{"weight_map": {"cls.predictions.bias": "inside.safetensors"}}`)
	}, said: []string{"model", "inside.safetensors"}},
	{name: "weights of another shape", prepare: func(w *workspace) {
		w.write("model/config.json", strings.Replace(w.read("model/config.json"), `"intermediate_size": 64`, `"intermediate_size": 65`, 1))
	}, said: []string{"model/model.safetensors", "intermediate", "64", "65"}},
	{name: "a billion layers", prepare: func(w *workspace) {
		w.write("model/config.json", strings.Replace(w.read("model/config.json"), `"num_hidden_layers": 2`, `"num_hidden_layers": 1000000000`, 1))
	}, said: []string{"model/config.json", "num_hidden_layers", "1000000000"}},
	{name: "weights of another model", prepare: tensors(`{"wte.weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}`, 16),
		said: []string{"model/model.safetensors", "none", "BertForMaskedLM"}},
	{name: "more tokens than rows", prepare: func(w *workspace) {
		w.write("model/vocab.txt", w.read("model/vocab.txt")+"onemore\n")
	}, said: []string{"model", "97", "rows"}},
	{name: "no tokenizer", prepare: remove("model/vocab.txt"), said: []string{"model", "tokenizer.json"}},
	{name: "tokenizer no JSON", prepare: write("model/tokenizer.json", "{"), said: []string{"tokenizer"}},
	{name: "no mask token", prepare: func(w *workspace) {
		w.write("model/vocab.txt", strings.Replace(w.read("model/vocab.txt"), "[MASK]", "masked", 1))
		w.write("model/tokenizer_config.json", `{"tokenizer_class": "BertTokenizer", "mask_token": null}`)
	}, said: []string{"model", "mask"}},
	{name: "longer than the positions", set: settings{"max_seq_length": 41}, said: []string{"max_seq_length", "41", "40"}},
	{name: "no room for text", set: settings{"max_seq_length": 2}, said: []string{"max_seq_length", "2"}},
	{name: "tokenizer file leads outside", prepare: func(w *workspace) {
		if err := os.Symlink("../text.txt", w.path("model/merges.txt")); err != nil {
			w.t.Fatal(err)
		}
	}, said: []string{"merges.txt"}},
}

var badTexts = []badInput{
	{name: "no such text", set: settings{"data": "nowhere.txt"}, said: []string{"data", "nowhere.txt"}},
	{name: "pattern without a match", set: settings{"data": "*.text"}, said: []string{"data", "*.text"}},
	{name: "directory without text", set: settings{"data": "tmp"}, said: []string{"tmp"}},
	{name: "empty text", prepare: write("text.txt", ""), said: []string{"text.txt", "empty"}},
	{name: "blank text", prepare: write("text.txt", " \n\n \t\n"), said: []string{"text.txt", "empty"}},
	{name: "nothing that can be masked", prepare: write("text.txt", "\u6f22\u5b57\n\u6f22\n"), said: []string{"text.txt", "mask"}},
	{name: "held-out text with nothing that can be masked", prepare: write("heldout.txt", "\u6f22\u5b57\n"),
		set: settings{"eval_data": "heldout.txt"}, said: []string{"heldout.txt", "mask"}},
	{name: "empty held-out text", prepare: write("heldout.txt", ""), set: settings{"eval_data": "heldout.txt"},
		said: []string{"heldout.txt", "empty"}},
	{name: "not UTF-8", prepare: write("text.txt", "ban ben\nb\xe4n\n"), said: []string{"text.txt", "9", "encoding_errors: replace"}},
	{name: "a JSON line without the field", prepare: write("text.jsonl", "{\"text\": \"ban\"}\n{\"body\": \"ben\"}\n"), set: settings{"data": "text.jsonl"},
		said: []string{"text.jsonl", "line 2", "body", "text_field"}},
	{name: "an archive that is none", prepare: write("text.txt.gz", "ban ben\n"), set: settings{"data": "text.txt.gz"}, said: []string{"text.txt.gz", "gzip"}},
	{name: "no full step", set: settings{"dataloader_drop_last": true, "global_batch_size": 64}, said: []string{"dataloader_drop_last", "33"}},
}

func remove(name string) func(*workspace) {
	return func(w *workspace) {
		if err := os.Remove(w.path(name)); err != nil {
			w.t.Fatal(err)
		}
	}
}

func write(name, content string) func(*workspace) {
	return func(w *workspace) { w.write(name, content) }
}

// safetensors writes weights whose header says that it has length bytes.
func safetensors(length uint64, rest string) func(*workspace) {
	return write("model/model.safetensors", string(binary.LittleEndian.AppendUint64(nil, length))+rest)
}

// tensors writes weights with a header and that many zeros.
func tensors(header string, zeros int) func(*workspace) {
	return safetensors(uint64(len(header)), header+strings.Repeat("\x00", zeros))
}

// outside moves the weights out of the model.
func outside(w *workspace) {
	if err := os.Rename(w.path("model/model.safetensors"), w.path("outside.safetensors")); err != nil {
		w.t.Fatal(err)
	}
}

// Each bad input is exit code 78 and a message that names the file or key and what is wrong; nothing is written, and output_dir does
// not come to be.
func TestBadInput(t *testing.T) {
	for _, group := range [][]badInput{badConfigurations, badModels, badTexts} {
		for _, bad := range group {
			t.Run(bad.name, func(t *testing.T) { bad.refused(t, newWorkspace) })
		}
	}
}

// refused runs ddprun on the bad input in a workspace of its own.
func (bad badInput) refused(t *testing.T, workspace func(testing.TB, int) *workspace) {
	t.Parallel()
	w := workspace(t, 33)
	if bad.prepare != nil {
		bad.prepare(w)
	}
	w.config("train.yaml", bad.set)
	args := bad.args
	if args == nil {
		args = []string{"--nproc", "2", "train.yaml"}
	}
	w.refused(bad.said, args...)
}

// refused runs ddprun on what it must refuse without a trace.
func (w *workspace) refused(said []string, args ...string) {
	w.t.Helper()
	before := w.tree()
	r := w.run(args...)
	w.sameTree(before)
	r.want(w.t, 78, said...)
	if strings.Contains(r.stderr, "goroutine ") || strings.Contains(r.stderr, "c10::Error") {
		w.t.Errorf("the message is a stack:\n%s", r.stderr)
	}
}

// What looks odd and is right.
func TestInputThatIsFine(t *testing.T) {
	for _, fine := range []badInput{
		{name: "more rows than tokens", prepare: func(w *workspace) {
			w.write("model/vocab.txt", strings.Join(kit.Vocabulary()[:90], "\n")+"\n")
		}},
		{name: "not UTF-8, replaced", prepare: write("text.txt", "ban ben\nb\xe4n ban\nben\n"), set: settings{"encoding_errors": "replace"}},
		{name: "JSON lines", prepare: write("text.jsonl", "{\"a\": {\"b\": \"ban ben\"}}\n{\"a\": {\"b\": \"ben\"}}\n"),
			set: settings{"data": "text.jsonl", "text_field": "a.b"}},
		{name: "a pattern through directories", set: settings{"data": "**/text.txt"}},
		{name: "no weights", prepare: remove("model/model.safetensors")},
		{name: "one line", prepare: write("text.txt", "ban")},
		{name: "some lines with nothing that can be masked", prepare: write("text.txt", "\u6f22\nban\n\n\u5b57\n")},
		{name: "a key in a variable's place", args: []string{"--set", "learning_rate=1e-4", "train.yaml"}},
	} {
		t.Run(fine.name, func(t *testing.T) {
			t.Parallel()
			w := newWorkspace(t, 33)
			if fine.prepare != nil {
				fine.prepare(w)
			}
			changes := settings{"max_steps": 2}
			maps.Copy(changes, fine.set)
			w.config("train.yaml", changes)
			args := fine.args
			if args == nil {
				args = []string{"train.yaml"}
			}
			w.run(args...).want(t, 0)
			w.steps("out", 2)
		})
	}
}
