package config

import (
	"reflect"
	"testing"
)

// TestOldAndForeignKeys: what became of each key of Trainer is told, and the right key has the value.
func TestOldAndForeignKeys(t *testing.T) {
	const held = "eval_data: held.txt\n"
	for _, c := range []struct {
		text, note string
		key        string // empty: nothing but the note
		want       any
	}{
		{"warmup_ratio: 0.06", "warmup_ratio: a name of transformers 4; taken as warmup_steps: 0.06", "warmup_steps", 0.06},
		{"evaluation_strategy: no", "evaluation_strategy: taken as eval_strategy", "eval_strategy", "no"},
		{"per_gpu_train_batch_size: 4", "per_gpu_train_batch_size: taken as per_device_train_batch_size", "per_device_train_batch_size", 4},
		{"per_gpu_eval_batch_size: 4", "per_gpu_eval_batch_size: taken as per_device_eval_batch_size", "per_device_eval_batch_size", 4},
		{"ddp_backend: gloo", "ddp_backend: taken as backend", "backend", "gloo"},
		{"no_cuda: true", "no_cuda: taken as device: cpu", "device", "cpu"},
		{"use_cpu: true", "use_cpu: taken as device: cpu", "device", "cpu"},
		{"use_cpu: false", "", "device", "auto"},
		{"overwrite_output_dir: true", "overwrite_output_dir: transformers 5 has dropped this key of version 4; ddprun keeps it", "overwrite_output_dir", true},
		{"train_sampling_strategy: sequential", "train_sampling_strategy: taken as data_order: corpus", "data_order", "corpus"},
		{"train_sampling_strategy: random", "train_sampling_strategy: taken as data_order: shuffled", "data_order", "shuffled"},
		{"train_sampling_strategy: group_by_length", "train_sampling_strategy: ignored; micro-batches are not padded, so length does not matter", "data_order", "shuffled"},
		{"group_by_length: true", "group_by_length: ignored; micro-batches are not padded, so length does not matter", "", nil},
		{"save_safetensors: true", "save_safetensors: ignored; weights are always written as safetensors", "", nil},
		{"logging_dir: x", "logging_dir: ignored; logs lie in output_dir", "", nil},
		{"logging_strategy: steps", "logging_strategy: ignored; ddprun always logs by steps", "", nil},
		{"tf32:", "", "tf32", false},
		{"full_determinism: true", "", "full_determinism", true},
		{"fp16: false", "fp16: ignored; at this value it asks for nothing", "", nil},
		{"run_name:", "run_name: ignored; at this value it asks for nothing", "", nil},
		{"optim: adamw_torch_fused", "optim: ignored; at this value it asks for nothing", "", nil},
	} {
		loaded := mustLoad(t, minimal+held+c.text+"\n", nil, nil)
		var want []string
		if c.note != "" {
			want = []string{"train.yaml:5: " + c.note}
		}
		if !reflect.DeepEqual(loaded.Notes, want) {
			t.Errorf("%s: notes %q, want %q", c.text, loaded.Notes, want)
		}
		if got := loaded.Config.Resolved()[c.key]; c.key != "" && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %s is %v, want %v", c.text, c.key, got, c.want)
		}
	}
}

// TestTablesOfKeysAreDisjoint: a key of ddprun in one of the tables would never be reached.
func TestTablesOfKeysAreDisjoint(t *testing.T) {
	for key := range trainerOnly {
		if _, found := fieldOf[key]; found || renamed[key] != "" || meant[key] != "" {
			t.Errorf("%s stands in trainerOnly and elsewhere", key)
		}
	}
	for key, name := range renamed {
		if _, found := fieldOf[name]; name != "" && !found {
			t.Errorf("renamed: %s leads to %s, which is no key", key, name)
		}
		if _, found := fieldOf[key]; found && key != name {
			t.Errorf("renamed hides the key %s", key)
		}
	}
	for key := range meant {
		if _, found := fieldOf[key]; found || renamed[key] != "" {
			t.Errorf("meant hides the key %s", key)
		}
	}
}
