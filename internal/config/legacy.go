package config

import (
	"math"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// renamed are other names of keys: those of transformers 4, and those of transformers 5 that a key of ddprun covers.
var renamed = map[string]string{
	"evaluation_strategy":           "eval_strategy",
	"per_gpu_train_batch_size":      "per_device_train_batch_size",
	"per_gpu_eval_batch_size":       "per_device_eval_batch_size",
	"ddp_backend":                   "backend",
	"xpu_backend":                   "backend",
	"warmup_ratio":                  "warmup_steps",
	"no_cuda":                       "device",
	"use_cpu":                       "device",
	"train_sampling_strategy":       "data_order",
	"overwrite_output_dir":          "overwrite_output_dir",
	"group_by_length":               "",
	"logging_dir":                   "",
	"save_safetensors":              "",
	"include_tokens_per_second":     "",
	"logging_strategy":              "",
	"do_train":                      "",
	"do_eval":                       "",
	"average_tokens_across_devices": "",
}

// trainerOnly are the keys of TrainingArguments (transformers 5.23) that ddprun does not have, with Trainer's default. At its
// default such a key asks for nothing and is taken with a note, so that a file written for Trainer can be used.
var trainerOnly = map[string]string{
	"optim":                                   "adamw_torch_fused",
	"optim_args":                              "null",
	"optim_target_modules":                    "null",
	"fp16":                                    "false",
	"bf16_full_eval":                          "false",
	"fp16_full_eval":                          "false",
	"activation_checkpointing":                "false",
	"activation_checkpointing_kwargs":         "null",
	"gradient_checkpointing_kwargs":           "null",
	"torch_compile":                           "false",
	"torch_compile_backend":                   "null",
	"torch_compile_mode":                      "null",
	"use_liger_kernel":                        "false",
	"liger_kernel_config":                     "null",
	"use_cache":                               "false",
	"neftune_noise_alpha":                     "null",
	"torch_empty_cache_steps":                 "null",
	"auto_find_batch_size":                    "false",
	"logging_first_step":                      "false",
	"log_on_each_node":                        "true",
	"logging_nan_inf_filter":                  "true",
	"include_num_input_tokens_seen":           "no",
	"log_level_replica":                       "warning",
	"disable_tqdm":                            "null",
	"report_to":                               "none",
	"run_name":                                "null",
	"project":                                 "huggingface",
	"trackio_space_id":                        "null",
	"trackio_bucket_id":                       "null",
	"trackio_static_space_id":                 "null",
	"eval_delay":                              "0",
	"prediction_loss_only":                    "false",
	"eval_do_concat_batches":                  "true",
	"eval_use_gather_object":                  "false",
	"eval_accumulation_steps":                 "null",
	"include_for_metrics":                     "null",
	"batch_eval_metrics":                      "false",
	"save_only_model":                         "false",
	"save_on_each_node":                       "false",
	"enable_jit_checkpoint":                   "false",
	"push_to_hub":                             "false",
	"hub_token":                               "null",
	"hub_private_repo":                        "null",
	"hub_model_id":                            "null",
	"hub_strategy":                            "every_save",
	"hub_always_push":                         "false",
	"hub_revision":                            "null",
	"ignore_data_skip":                        "false",
	"restore_callback_states_from_checkpoint": "false",
	"accelerator_config":                      "null",
	"parallelism_config":                      "null",
	"dataloader_num_workers":                  "0",
	"dataloader_pin_memory":                   "true",
	"dataloader_persistent_workers":           "false",
	"dataloader_prefetch_factor":              "null",
	"dataloader_multiprocessing_context":      "null",
	"dataloader_in_order":                     "true",
	"remove_unused_columns":                   "true",
	"label_names":                             "null",
	"length_column_name":                      "length",
	"ddp_find_unused_parameters":              "null",
	"ddp_broadcast_buffers":                   "null",
	"ddp_static_graph":                        "null",
	"fsdp":                                    "null",
	"fsdp_config":                             "null",
	"deepspeed":                               "null",
	"debug":                                   "",
	"skip_memory_metrics":                     "true",
	"do_predict":                              "false",
	"local_rank":                              "-1",
}

// meant are keys that people try, from run_mlm.py and other trainers, with what they mean here.
var meant = map[string]string{
	"model_name_or_path": "model",
	"train_file":         "data",
	"validation_file":    "eval_data",
	"max_length":         "max_seq_length",
	"batch_size":         "per_device_train_batch_size",
	"epochs":             "num_train_epochs",
	"lr":                 "learning_rate",
	"line_by_line":       "text_unit: line",
	"text_column_name":   "text_field",
	"text_column":        "text_field",
	"nproc":              "--nproc on the command line",
	"nproc_per_node":     "--nproc on the command line",
}

// translate turns an entry with a key of transformers into one with ddprun's key and returns a note for the user, empty
// if nothing changed. keep is false where the entry asks nothing of ddprun.
func translate(e entry) (out entry, keep bool, note string, err error) {
	if standard, found := trainerOnly[e.key]; found {
		if value := resolve(e.value); isNull(value) || value.Kind == yaml.ScalarNode && value.Value == standard {
			return e, false, "ignored; at this value it asks for nothing", nil
		}
		return e, false, "", e.errorf("is a key of Trainer that is not available in ddprun yet; remove it")
	}
	name, found := renamed[e.key]
	if !found {
		return e, true, "", nil
	}
	out = e
	out.key = name
	switch e.key {
	case "overwrite_output_dir":
		return out, true, "transformers 5 has dropped this key of version 4; ddprun keeps it", nil
	case "warmup_ratio":
		return translateRatio(e, out)
	case "no_cuda", "use_cpu":
		return translateUseCPU(e, out)
	case "train_sampling_strategy":
		return translateSampling(e, out)
	case "group_by_length":
		return ignoreTruth(e, "micro-batches are not padded, so length does not matter", true, false)
	case "include_tokens_per_second":
		return ignoreTruth(e, "tokens_per_second is always logged", true, false)
	case "do_train", "do_eval":
		return ignoreTruth(e, "ddprun trains, and evaluates where eval_data is given", true, false)
	case "save_safetensors":
		return ignoreTruth(e, "weights are always written as safetensors", true)
	case "average_tokens_across_devices":
		return ignoreTruth(e, "the loss is always the mean over the tokens of all ranks", true)
	case "logging_dir":
		return out, false, "ignored; logs lie in output_dir", nil
	case "logging_strategy":
		if value := resolve(e.value); value.Kind != yaml.ScalarNode || value.Value != "steps" {
			return out, false, "", e.errorf("ddprun logs every logging_steps steps; want steps, got %s", describe(e.value))
		}
		return out, false, "ignored; ddprun always logs by steps", nil
	}
	return out, true, "taken as " + name, nil
}

// truth reads a value that must be true or false.
func truth(e entry) (bool, error) {
	value := resolve(e.value)
	if value.Kind != yaml.ScalarNode || value.ShortTag() != "!!bool" {
		return false, e.errorf("want true or false, got %s", describe(value))
	}
	var on bool
	err := value.Decode(&on)
	return on, err
}

// ignoreTruth drops a switch that stands as ddprun does things anyway, or makes no difference to it.
func ignoreTruth(e entry, because string, allowed ...bool) (entry, bool, string, error) {
	on, err := truth(e)
	if err != nil {
		return e, false, "", err
	}
	for _, value := range allowed {
		if on == value {
			return e, false, "ignored; " + because, nil
		}
	}
	return e, false, "", e.errorf("%s; remove it", because)
}

// translateRatio takes warmup_ratio, a share of all steps, as warmup_steps, which is one if it is below 1.
func translateRatio(e, out entry) (entry, bool, string, error) {
	value := resolve(e.value)
	ratio, err := strconv.ParseFloat(value.Value, 64)
	if err != nil || value.Kind != yaml.ScalarNode || math.IsNaN(ratio) || ratio < 0 || ratio >= 1 {
		return out, false, "", e.errorf("want a share of the steps, at least 0 and below 1, got %s", describe(value))
	}
	return out, true, "a name of transformers 4; taken as warmup_steps: " + value.Value, nil
}

// translateUseCPU takes no_cuda and use_cpu: true as device: cpu; false asks for nothing.
func translateUseCPU(e, out entry) (entry, bool, string, error) {
	on, err := truth(e)
	if err != nil || !on {
		return out, false, "", err
	}
	out.setText("cpu")
	return out, true, "taken as device: cpu", nil
}

func translateSampling(e, out entry) (entry, bool, string, error) {
	switch value := resolve(e.value); {
	case value.Kind != yaml.ScalarNode:
	case value.Value == "random":
		out.setText("shuffled")
		return out, true, "taken as data_order: shuffled", nil
	case value.Value == "sequential":
		out.setText("corpus")
		return out, true, "taken as data_order: corpus", nil
	case value.Value == "group_by_length":
		return out, false, "ignored; micro-batches are not padded, so length does not matter", nil
	}
	return out, false, "", e.errorf("want random, sequential or group_by_length, got %s", describe(e.value))
}

// setText replaces the entry's value, and what a flag said, by text.
func (e *entry) setText(text string) {
	e.value = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Line: e.value.Line}
	e.raw = ""
}
