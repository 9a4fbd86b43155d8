package config

import (
	"strings"
	"testing"
)

func TestTokenBudgetKeys(t *testing.T) {
	loaded := mustLoad(t, "model: m\noutput_dir: o\ndata: d\nper_device_train_tokens: 4096\nglobal_batch_tokens: 8192\n", nil, nil)
	if c := loaded.Config; c.PerDeviceTrainBatchSize != 0 || loaded.Sources["per_device_train_batch_size"] != "default, from per_device_train_tokens" {
		t.Errorf("per_device_train_batch_size is %d (%s)", c.PerDeviceTrainBatchSize, loaded.Sources["per_device_train_batch_size"])
	}
	for keys, want := range map[string]string{
		"per_device_train_tokens: 10\nper_device_train_batch_size: 8":                          "keep one",
		"per_device_train_tokens: 10\nglobal_batch_size: 8":                                    "use global_batch_tokens",
		"per_device_train_tokens: 10\nglobal_batch_tokens: 25":                                 "not a multiple",
		"per_device_train_tokens: 10\nglobal_batch_tokens: 20\ngradient_accumulation_steps: 2": "fixes the accumulation",
		"global_batch_tokens: 20":                                                              "needs per_device_train_tokens",
		"per_device_train_batch_size: 0":                                                       "must be at least 1",
		"group_texts: true\nsample_unit: document":                                             "is for sample_unit window",
		"group_texts: true\nobjective: span_corruption":                                        "is for objective mlm",
		"long_samples: truncate":                                                               "windows hold every token",
		"objective: nsp\nlong_samples: split":                                                  "only truncated",
		"sample_unit: document\nlong_samples: leave_out":                                       "split, truncate",
	} {
		_, err := Load(write(t, "model: m\noutput_dir: o\ndata: d\n"+keys+"\n"), nil, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error %v does not say %q", keys, err, want)
		}
	}
}
