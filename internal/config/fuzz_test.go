package config

import (
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzLoad: no text makes the reader panic or hang, and what it takes is a configuration that goes through JSON unchanged.
func FuzzLoad(f *testing.F) {
	for _, text := range []string{
		minimal, minimal + "eval_data: {a: [b, c], d: e}\n", minimal + "warmup_ratio: 0.1\n", minimal + "<<: *a\n", bomb(),
		"a: &a [*a]\n", "? [a]\n: b\n", "---\n---\n", "%YAML 1.1\n---\na: b\n", "a: !!binary x\n", "\xff\xfe", "a: |\n\tb",
		"lr_scheduler_kwargs: {num_cycles: 1e400}\n", "seed: 0x1F\n", "data: [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]\n", "{", "*a",
	} {
		f.Add(text, "seed=1", "DDPRUN_CFG_SEED=2")
	}
	f.Add(minimal, "data=[a, b]", "DDPRUN_CFG_EVAL_DATA={a: b}")
	f.Add(minimal, "eval_data={a: 1}", "DDPRUN_CFG_=")
	f.Fuzz(func(t *testing.T, text, set, variable string) {
		top, err := parseDocument("train.yaml", []byte(text))
		if err != nil {
			return
		}
		loaded, err := load("train.yaml", top, []string{set}, []string{variable})
		if err != nil {
			return
		}
		encoded, err := json.Marshal(loaded.Config)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(encoded)
		if err != nil {
			t.Fatalf("%s does not come back: %v", encoded, err)
		}
		if again, _ := json.Marshal(back); string(again) != string(encoded) {
			t.Fatalf("got  %s\nwant %s", again, encoded)
		}
	})
}

func FuzzDecode(f *testing.F) {
	good, _ := json.Marshal(Default())
	f.Add(good)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Decode(text)
		if err != nil {
			return
		}
		encoded, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Decode(encoded); err != nil || !reflect.DeepEqual(c, back) {
			t.Fatalf("%s does not come back: %v", encoded, err)
		}
	})
}
