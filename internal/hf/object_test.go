package hf

import (
	"slices"
	"testing"
)

func FuzzParseObject(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1,"b":{"c":[1,2.50]}}`, `{"a":1,"a":2}`, `[`, `{"a"`, "{\"\\ud800\":0}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := parseObject(data)
		if err != nil {
			return
		}
		text, err := o.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseObject(text)
		if err != nil {
			t.Fatalf("%q became %q: %v", data, text, err)
		}
		if !slices.Equal(o.keys, again.keys) {
			t.Errorf("keys %q became %q", o.keys, again.keys)
		}
	})
}
