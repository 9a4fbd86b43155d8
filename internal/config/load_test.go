package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// write puts text into train.yaml of a temporary directory, which becomes the working directory.
func write(t *testing.T, text string) string {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("train.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "train.yaml"
}

const minimal = "model: models/bert\ndata: corpus/*.txt\noutput_dir: runs/first\n"

func mustLoad(t *testing.T, text string, sets, environ []string) *Loaded {
	t.Helper()
	loaded, err := Load(write(t, text), sets, environ)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

func TestMinimalFileHasTheDefaults(t *testing.T) {
	loaded := mustLoad(t, minimal, nil, nil)
	want := Default()
	want.Model, want.Data, want.OutputDir = "models/bert", DataOf("corpus/*.txt"), "runs/first"
	want.ShardsDir = filepath.Join("runs/first", ".ddprun", "shards")
	want.DataSeed, want.EvalStrategy, want.EvalSteps = 42, "no", 500
	if !reflect.DeepEqual(loaded.Config, want) {
		t.Errorf("got  %+v\nwant %+v", loaded.Config, want)
	}
	if len(loaded.Notes) != 0 {
		t.Errorf("notes on a file without old keys: %q", loaded.Notes)
	}
}

// TestEveryKindOfValue reads each way of writing a value that the decoder knows.
func TestEveryKindOfValue(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	c := mustLoad(t, `
model: "~/bert"          # quoted text
output_dir: &out runs/2024
shards_dir: *out
data:
  - a.txt
  - '~/b.txt'
eval_data: {domain: [x.txt, y.txt], general: z.txt}
learning_rate: 5e-5
weight_decay: 1
max_steps: 1_000
whole_word_mask: true
save_total_limit:
lr_scheduler_type: warmup_stable_decay
lr_scheduler_kwargs: {num_decay_steps: 10, min_lr_ratio: 0.1, warmup_type: 1-sqrt, decay_type: linear}
warmup_steps: 0.1
`, nil, nil).Config
	if c.Model != "/home/me/bert" || c.ShardsDir != "runs/2024" || c.LearningRate != 5e-5 || c.WeightDecay != 1 ||
		c.MaxSteps != 1000 || !c.WholeWordMask || c.SaveTotalLimit != 0 || c.WarmupSteps != 0.1 {
		t.Errorf("got %+v", c)
	}
	if want := DataOf("a.txt", "/home/me/b.txt"); !reflect.DeepEqual(c.Data, want) {
		t.Errorf("data %v, want %v", c.Data, want)
	}
	if want := (EvalData{{"domain", []string{"x.txt", "y.txt"}}, {"general", []string{"z.txt"}}}); !reflect.DeepEqual(c.EvalData, want) {
		t.Errorf("eval_data %v, want %v", c.EvalData, want)
	}
	if want := (LRSchedulerKwargs{NumCycles: 0.5, MinLRRatio: 0.1, NumDecaySteps: 10, NumStableSteps: -1, WarmupType: "1-sqrt", DecayType: "linear"}); c.LRSchedulerKwargs != want {
		t.Errorf("lr_scheduler_kwargs %v, want %v", c.LRSchedulerKwargs, want)
	}
	if c.EvalStrategy != "steps" || !c.EvalOnStart {
		t.Errorf("eval_data turns evaluation on, got eval_strategy %s, eval_on_start %v", c.EvalStrategy, c.EvalOnStart)
	}
}

func TestLayersAndSources(t *testing.T) {
	loaded := mustLoad(t, minimal+"seed: 1\nmax_steps: 1\nsave_steps: 1\neval_seed: 3\n",
		[]string{"seed=3", "seed=4", "data=[a, b]", "output_dir=2024", "use_cpu=true", "save_total_limit=", "eval_seed=0"},
		[]string{"PATH=/bin", "DDPRUN_CFG_SEED=2", "DDPRUN_CFG_MAX_STEPS=2", "DDPRUN_CFG_MODEL=a: b", "DDPRUN_CFG_WARMUP_RATIO=0.5"})
	c := loaded.Config
	if c.Seed != 4 || c.MaxSteps != 2 || c.SaveSteps != 1 || c.EvalSeed != 0 || c.OutputDir != "2024" || c.Device != "cpu" || c.Model != "a: b" ||
		c.WarmupSteps != 0.5 || !reflect.DeepEqual(c.Data, DataOf("a", "b")) {
		t.Errorf("got %+v", c)
	}
	for key, want := range map[string]string{
		"seed": "--set seed", "max_steps": "DDPRUN_CFG_MAX_STEPS", "save_steps": "train.yaml:6", "log_level": "default",
		"data_seed": "default, from seed", "warmup_steps": "DDPRUN_CFG_WARMUP_RATIO", "save_total_limit": "default",
	} {
		if got := loaded.Sources[key]; got != want {
			t.Errorf("source of %s: %q, want %q", key, got, want)
		}
	}
}

// TestErrors holds the message of every way to get the file wrong. A case is added to the minimal file, which has 3 lines.
func TestErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"learning_rat: 1", "train.yaml:4: learning_rat: unknown key; did you mean learning_rate?"},
		{"Learning-Rate: 1", "train.yaml:4: Learning-Rate: unknown key; did you mean learning_rate?"},
		{"lr: 1", "train.yaml:4: lr: unknown key; did you mean learning_rate?"},
		{"nproc: 2", "train.yaml:4: nproc: unknown key; did you mean --nproc on the command line?"},
		{"zzzzzzzz: 1", "train.yaml:4: zzzzzzzz: unknown key; docs/configuration.md lists the keys"},
		{"fp16: true", "train.yaml:4: fp16: is a key of Trainer that is not available in ddprun yet; remove it"},
		{"deepspeed: {stage: 2}", "train.yaml:4: deepspeed: is a key of Trainer that is not available in ddprun yet; remove it"},
		{"seed: 1\n\nseed: 2", "train.yaml:6: seed: stands twice, first in line 4; keep one"},
		{"eval_strategy: no\nevaluation_strategy: no", "train.yaml:5: evaluation_strategy: says the same as eval_strategy (train.yaml:4); keep one"},
		{"? [a, b]\n: 1", "train.yaml:4: want a word as key, got a list"},
		{"<<: {seed: 1}", "train.yaml:4: merge keys (<<) are not supported; write the keys out"},
		{"seed: many", `train.yaml:4: seed: want a whole number in decimal digits, got the text "many"`},
		{"seed: 1.5", "train.yaml:4: seed: want a whole number in decimal digits, got the number 1.5"},
		{"seed: 010", "train.yaml:4: seed: want a whole number in decimal digits, got the number 010"},
		{"seed: 99999999999999999999", "train.yaml:4: seed: want a whole number in decimal digits, got the number 99999999999999999999"},
		{"seed: -1", "train.yaml:4: seed: must be at least 0, got -1"},
		{"seed:", "train.yaml:4: seed: has no value"},
		{"seed: [1]", "train.yaml:4: seed: want a whole number in decimal digits, got a list"},
		{"learning_rate: fast", `train.yaml:4: learning_rate: want a number, got the text "fast"`},
		{"learning_rate: .nan", "train.yaml:4: learning_rate: must be a finite number, got NaN"},
		{"learning_rate: .inf", "train.yaml:4: learning_rate: must be a finite number, got +Inf"},
		{"learning_rate: !!python/object 1", `train.yaml:4: learning_rate: want a number, got "1" with the tag "!!python/object"`},
		{"whole_word_mask: yes", `train.yaml:4: whole_word_mask: want true or false, got the text "yes"`},
		{"shards_dir: 2024", "train.yaml:4: shards_dir: want text, got the number 2024; put it in quotes if it is meant"},
		{"shards_dir: 2024-01-01", "train.yaml:4: shards_dir: want text, got the date 2024-01-01; put it in quotes if it is meant"},
		{"resume_from_checkpoint: true", "train.yaml:4: resume_from_checkpoint: want text, got true; put it in quotes if it is meant"},
		{"eval_data: [a, 1]", "train.yaml:4: eval_data: want text, got the number 1; put it in quotes if it is meant (item 2 of the list)"},
		{"eval_data: {a: b, a: c}", "train.yaml:4: a: stands twice, first in line 4; keep one"},
		{"eval_data: {a: }", "train.yaml:4: eval_data.a: has no value"},
		{"eval_data:\n  'a b': c", `train.yaml:4: eval_data: the set name "a b" may hold letters, digits, _, . and - only`},
		{"eval_data:\n  ok: x\n  no: {x: y}", "train.yaml:6: eval_data.no: want text or a list of texts, got a map"},
		{"eval_data: []", "train.yaml:4: eval_data: eval_data holds an empty path or none"},
		{"text_unit: page", `train.yaml:4: text_unit: want one of file, paragraph, line; got "page"`},
		{"objective: clm", `train.yaml:4: objective: want one of mlm, nsp, sop, mlm+nsp, mlm+sop, reconstruction, span_corruption; got "clm"`},
		{"save_strategy: best", `train.yaml:4: save_strategy: want one of no, steps, epoch; got "best"`},
		{"load_best_model_at_end: true", "train.yaml:4: load_best_model_at_end: needs evaluations: give eval_data or validation_split_percentage, and eval_strategy steps or epoch"},
		{"early_stopping_patience: 2", "train.yaml:4: early_stopping_patience: needs evaluations: give eval_data or validation_split_percentage, and eval_strategy steps or epoch"},
		{"freeze: ['(']", "train.yaml:4: freeze: \"(\" is no regular expression: error parsing regexp: missing closing ): `(`"},
		{"mlm_probability: 0", "train.yaml:4: mlm_probability: must be above 0 and at most 1, got 0"},
		{"mask_replace_prob: 1.1", "train.yaml:4: mask_replace_prob: must be between 0 and 1, got 1.1"},
		{"mask_replace_prob: 0.95", "train.yaml:4: mask_replace_prob: mask_replace_prob + random_replace_prob must be at most 1, got 0.95 + 0.1"},
		{"per_device_train_batch_size: 0", "train.yaml:4: per_device_train_batch_size: must be at least 1, got 0"},
		{"per_device_train_batch_size: 2000000000", "train.yaml:4: per_device_train_batch_size: must be at most 1073741824, got 2000000000"},
		{"global_batch_size: 12", "train.yaml:4: global_batch_size: 12 is not a multiple of per_device_train_batch_size 8"},
		{"global_batch_size: 16\ngradient_accumulation_steps: 2", "train.yaml:4: global_batch_size: fixes the accumulation already; remove global_batch_size or gradient_accumulation_steps 2"},
		{"max_steps: 0", "train.yaml:4: max_steps: must be above 0 (at most 1099511627776), or -1 for num_train_epochs, got 0"},
		{"num_train_epochs: 0", "train.yaml:4: num_train_epochs: must be above 0 where max_steps is not given"},
		{"warmup_steps: 1.5", "train.yaml:4: warmup_steps: must be a whole number of steps, or a share of all steps below 1, got 1.5"},
		{"warmup_ratio: 1", "train.yaml:4: warmup_ratio: want a share of the steps, at least 0 and below 1, got the number 1"},
		{"save_steps: 0", "train.yaml:4: save_steps: must not be 0"},
		{"logging_steps: -1", "train.yaml:4: logging_steps: must be a whole number of steps, or a share of all steps below 1, got -1"},
		{"adam_epsilon: 0", "train.yaml:4: adam_epsilon: must be above 0, got 0"},
		{"eval_strategy: steps", "train.yaml:4: eval_strategy: steps needs eval_data or validation_split_percentage"},
		{"eval_on_start: true", "train.yaml:4: eval_on_start: true needs eval_data or validation_split_percentage"},
		{"validation_split_percentage: 100", "train.yaml:4: validation_split_percentage: must be at least 0 and below 100, got 100"},
		{"validation_split_percentage: -1", "train.yaml:4: validation_split_percentage: must be at least 0 and below 100, got -1"},
		{"validation_split_percentage: 5\neval_data: {validation: x.txt}", "train.yaml:5: eval_data: the set name \"validation\" is that of validation_split_percentage"},
		{"deduplicate: fuzzy", "train.yaml:4: deduplicate: want one of none, exact, near; got \"fuzzy\""},
		{"near_duplicate_threshold: 0.5", "train.yaml:4: near_duplicate_threshold: is for deduplicate near, but deduplicate is none"},
		{"deduplicate: near\nnear_duplicate_threshold: 1.5", "train.yaml:5: near_duplicate_threshold: must be above 0 and at most 1, got 1.5"},
		{"min_document_tokens: 9\nmax_document_tokens: 8", "train.yaml:5: max_document_tokens: 8 is below min_document_tokens 9"},
		{"sample_unit: sentence", "train.yaml:4: sample_unit: sentence needs sentence_unit to say where sentences end: line or auto"},
		{"lr_scheduler_kwargs: 3", "train.yaml:4: lr_scheduler_kwargs: want a map such as {num_cycles: 0.5}, got the number 3"},
		{"lr_scheduler_kwargs: {decay: 3}", "train.yaml:4: lr_scheduler_kwargs.decay: ddprun knows decay_type, min_lr_ratio, num_cycles, num_decay_steps, num_stable_steps, warmup_type here"},
		{"lr_scheduler_kwargs:\n  min_lr_ratio: x", `train.yaml:5: lr_scheduler_kwargs.min_lr_ratio: want a number, got the text "x"`},
		{"lr_scheduler_kwargs: {min_lr_ratio: 0.5}", "train.yaml:4: lr_scheduler_kwargs: all but num_cycles are of warmup_stable_decay, but lr_scheduler_type is linear"},
		{"lr_scheduler_kwargs: {num_cycles: 1}", "train.yaml:4: lr_scheduler_kwargs: num_cycles is of cosine and warmup_stable_decay, but lr_scheduler_type is linear"},
		{"lr_scheduler_type: warmup_stable_decay", "train.yaml: lr_scheduler_kwargs: lr_scheduler_type warmup_stable_decay needs num_decay_steps, at least 1"},
		{"lr_scheduler_type: cosine\nlr_scheduler_kwargs: {num_stable_steps: 0}", "train.yaml:5: lr_scheduler_kwargs: all but num_cycles are of warmup_stable_decay, but lr_scheduler_type is cosine"},
		{"lr_scheduler_type: warmup_stable_decay\nlr_scheduler_kwargs: {num_decay_steps: 1, num_stable_steps: -2}", "train.yaml:5: lr_scheduler_kwargs: num_stable_steps must be between 0 and 1099511627776, or -1 for what warm-up and decay leave, got -2"},
		{"lr_scheduler_type: warmup_stable_decay\nlr_scheduler_kwargs: {num_decay_steps: 1, decay_type: sqrt}", `train.yaml:5: lr_scheduler_kwargs: decay_type must be one of linear, cosine, 1-sqrt, got "sqrt"`},
		{"lr_scheduler_type: warmup_stable_decay\nlr_scheduler_kwargs: {num_decay_steps: 1, warmup_type: \"\"}", `train.yaml:5: lr_scheduler_kwargs: warmup_type must be one of linear, cosine, 1-sqrt, got ""`},
		{"lr_scheduler_type: warmup_stable_decay\nlr_scheduler_kwargs: {num_decay_steps: 1, num_cycles: 1, decay_type: linear}", "train.yaml:5: lr_scheduler_kwargs: num_cycles is of decay_type cosine, but decay_type is linear"},
		{"lr_scheduler_type: constant\nwarmup_steps: 3", "train.yaml:5: warmup_steps: lr_scheduler_type constant has no warm-up; use constant_with_warmup"},
		{"device: cpu\ntf32: true", "train.yaml:5: tf32: is of GPUs, but device is cpu; remove tf32, or set device: cuda"},
		{"full_determinism: maybe", `train.yaml:4: full_determinism: want true or false, got the text "maybe"`},
		{"device: cuda\nbackend: gloo", "train.yaml:5: backend: gloo sums in the host's memory, but device is cuda; leave backend out, which takes nccl"},
		{"device: cuda\nuse_cpu: true", "train.yaml:5: use_cpu: says the same as device (train.yaml:4); keep one"},
		{"no_cuda: 1", "train.yaml:4: no_cuda: want true or false, got the number 1"},
		{"save_safetensors: false", "train.yaml:4: save_safetensors: weights are always written as safetensors; remove it"},
		{"train_sampling_strategy: batch_rebalance", `train.yaml:4: train_sampling_strategy: want random, sequential or group_by_length, got the text "batch_rebalance"`},
		{"logging_strategy: epoch", `train.yaml:4: logging_strategy: ddprun logs every logging_steps steps; want steps, got the text "epoch"`},
		{"overwrite_output_dir: true\nresume_from_checkpoint: runs/x", `train.yaml:4: overwrite_output_dir: true starts anew, but resume_from_checkpoint names "runs/x"; keep one`},
		{"resume_from_checkpoint: ''", "train.yaml:4: resume_from_checkpoint: want auto, none or a checkpoint's directory, got an empty text"},
		{"shards_dir: \"a\\0b\"", "train.yaml:4: shards_dir: holds a NUL character, which no path has"},
		{"---\nseed: 1", "train.yaml:4: a second YAML document begins here; one file holds one configuration"},
		{"seed: *nowhere", "train.yaml:4: not valid YAML: unknown anchor 'nowhere' referenced"},
		{"seed: &a [*a]", "train.yaml:1: values are nested more than 16 deep (an alias inside its own anchor?)"},
		{"\tseed: 1", "train.yaml:4: not valid YAML: found a tab character that violates indentation"},
		{"seed: [1, 2", "train.yaml:4: not valid YAML: did not find expected ',' or ']'"},
		{"- a", "train.yaml:4: not valid YAML: did not find expected key"},
		{"seed: a: b", "train.yaml:4: not valid YAML: mapping values are not allowed in this context"},
		{"seed: 'x", "train.yaml:4: not valid YAML: found unexpected end of stream"},
		{"seed 3", "train.yaml:4: not valid YAML: could not find expected ':'"},
		{"seed: 3\nlog_level: \xff", "train.yaml:5: not UTF-8 text"},
	} {
		_, err := Load(write(t, minimal+c.text+"\n"), nil, nil)
		expect(t, c.text, err, c.want)
	}
}

func expect(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil {
		t.Errorf("%q: no error, want %q", what, want)
	} else if err.Error() != want {
		t.Errorf("%q:\ngot  %s\nwant %s", what, err, want)
	}
}

func TestErrorsOfVariablesAndFlags(t *testing.T) {
	for _, c := range []struct{ set, env, want string }{
		{"seed", "", "--set seed: want key=value"},
		{"=3", "", "--set =3: want key=value"},
		{"sed=3", "", "--set sed: sed: unknown key; did you mean seed?"},
		{"seed=x", "", `--set seed: seed: want a whole number in decimal digits, got the text "x"`},
		{"seed=[", "", `--set seed: seed: want a whole number in decimal digits, got the text "["`},
		{"seed=", "", "--set seed: seed: has no value"},
		{"seed=-3", "", "--set seed: seed: must be at least 0, got -3"},
		{"text_unit=page", "", `--set text_unit: text_unit: want one of file, paragraph, line; got "page"`},
		{"eval_data=\xff", "", "--set eval_data: eval_data: is not UTF-8 text, so checkpoints could not record it; rename or link the file"},
		{"eval_data={a: [1]}", "", "--set eval_data: eval_data.a: want text, got the number 1; put it in quotes if it is meant (item 1 of the list)"},
		{"eval_data={a: {b: c}}", "", "--set eval_data: eval_data.a: want text or a list of texts, got a map"},
		{"lr_scheduler_kwargs={x: 1}", "", "--set lr_scheduler_kwargs: lr_scheduler_kwargs.x: ddprun knows decay_type, min_lr_ratio, num_cycles, num_decay_steps, num_stable_steps, warmup_type here"},
		{"eval_data={a: b, a: c}", "", "--set eval_data: a: stands twice; keep one"},
		{"", "DDPRUN_CFG_SED=3", "DDPRUN_CFG_SED: sed: unknown key; did you mean seed?"},
		{"", "DDPRUN_CFG_SEED=x", `DDPRUN_CFG_SEED: seed: want a whole number in decimal digits, got the text "x"`},
		{"", "DDPRUN_CFG_FP16=true", "DDPRUN_CFG_FP16: fp16: is a key of Trainer that is not available in ddprun yet; remove it"},
	} {
		var sets []string
		if c.set != "" {
			sets = []string{c.set}
		}
		_, err := Load(write(t, minimal), sets, []string{c.env})
		expect(t, c.set+c.env, err, c.want)
	}
}

func TestErrorsOfFiles(t *testing.T) {
	required := "train.yaml: model: is required: the directory of a pretrained model\n" +
		"train.yaml: output_dir: is required: the directory for checkpoints, logs and the final model\n" +
		"train.yaml: data: is required: the text files to train on"
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", required},
		{"comment", "# nothing\n", required},
		{"null", "null\n", required},
		{"scalar", "hello\n", `train.yaml:1: want lines of the form "key: value", got the text "hello"`},
		{"list", "- a\n", `train.yaml:1: want lines of the form "key: value", got a list`},
		{"large", minimal + "#" + strings.Repeat("x", 1<<20), "train.yaml: is larger than 1 MiB; is it really the configuration?"},
		{"bomb", bomb(), "train.yaml:1: aliases expand to more than 1 MiB"},
	} {
		_, err := Load(write(t, c.text), nil, nil)
		expect(t, c.name, err, c.want)
	}
	dir := filepath.Dir(t.TempDir())
	_, err := Load(dir, nil, nil)
	expect(t, "directory", err, dir+": is a directory; name the configuration file in it")
	_, err = Load("nowhere.yaml", nil, nil)
	expect(t, "missing", err, "nowhere.yaml: cannot read the configuration: no such file or directory")
	_, err = Load("/dev/zero", nil, nil)
	expect(t, "device", err, "/dev/zero: is not a regular file")
}

// bomb is a file of a few hundred bytes whose aliases stand for 10^9 words.
func bomb() string {
	text := "a0: &a0 lol\n"
	for level := range 9 {
		name, inner := string(rune('b'+level)), string(rune('a'+level))
		if level == 0 {
			inner = "a0"
		}
		text += name + ": &" + name + " [" + strings.Repeat("*"+inner+", ", 9) + "*" + inner + "]\n"
	}
	return text
}

// TestEveryErrorIsReported: a file with several mistakes is mended in one go.
func TestEveryErrorIsReported(t *testing.T) {
	_, err := Load(write(t, minimal+"sed: 1\nfp16: true\nseed: 1\nseed: 2\n"), []string{"x"}, nil)
	if got := strings.Count(err.Error(), "\n"); got != 3 {
		t.Errorf("want 4 lines, got:\n%v", err)
	}
}

func TestOutputOfAHopelessFileIsBounded(t *testing.T) {
	text := strings.Builder{}
	for i := range 40000 {
		fmt.Fprintf(&text, "wrong_key_%d: 1\n", i)
	}
	start := time.Now()
	_, err := Load(write(t, text.String()), nil, nil)
	if got := strings.Count(err.Error(), "\n"); got != maxErrors || !strings.HasSuffix(err.Error(), "and more like these") {
		t.Errorf("%d lines, want %d and a last one that says so:\n%v", got, maxErrors, err)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %v", took)
	}
}
