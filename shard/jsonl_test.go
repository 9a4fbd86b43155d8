package shard

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// Odd lines are what Python's json.loads makes of them.
func TestJSONAsPython(t *testing.T) {
	for _, c := range goldenJSON[[]struct {
		Line, Field, Is, Text string
		Lone                  int64
	}](t, "json.json") {
		var scan jsonScan
		value, err := scan.find([]byte(c.Line), c.Field, strings.Split(c.Field, "."))
		is, text, lone := "none", "", int64(0)
		switch {
		case err != nil:
			is = "bad"
		case value.kind == '"':
			var b []byte
			b, lone = appendUnquoted(nil, value.raw)
			is, text = "text", string(b)
		case value.kind != 0 && value.kind != 'n':
			is = "other"
		}
		if is != c.Is || text != c.Text || lone != c.Lone {
			t.Errorf("%s of %s: %s %q with %d halves, %v; Python has %s %q with %d", c.Field, c.Line, is, text, lone, err, c.Is, c.Text, c.Lone)
		}
	}
}

func TestJSONDepth(t *testing.T) {
	for depth, ok := range map[int]bool{maxJSONDepth - 1: true, maxJSONDepth: false, 1 << 20: false} {
		line := `{"a":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + `,"text":"x"}`
		docs, bad := readAll(t, "x.jsonl", []byte(line), readOptions{}, readings["whole"])
		if (len(docs) == 1) != ok || (len(bad) == 1) == ok {
			t.Errorf("%d deep: %v, %v", depth, docs, bad)
		}
	}
}

// A literal name comes before a path of the same writing.
func TestJSONDottedName(t *testing.T) {
	docs, _ := readAll(t, "x.jsonl", []byte(`{"a.b":"x","a":{"b":"y"}}`+"\n"+`{"a":{"b":"y"}}`), readOptions{textField: "a.b"}, readings["whole"])
	if got := strings.Join(texts(docs), " "); got != "x y" {
		t.Error(got)
	}
}

// FuzzJSON: what the scan takes is what encoding/json takes (NaN and Infinity apart), and the text is what it has.
func FuzzJSON(f *testing.F) {
	for _, c := range goldenJSON[[]struct{ Line string }](f, "json.json") {
		f.Add([]byte(c.Line))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if !utf8.Valid(in) {
			return
		}
		var scan jsonScan
		value, err := scan.find(in, "text", []string{"text"})
		for _, path := range []string{"a.b", "text.text", ".", "a.", ""} {
			if _, err2 := scan.find(in, path, strings.Split(path, ".")); (err == nil) != (err2 == nil) {
				t.Fatalf("%q: %v, and with another field %v", in, err, err2)
			}
		}
		var fields map[string]json.RawMessage
		if json.Unmarshal(in, &fields) != nil || fields == nil {
			if err == nil && !bytes.Contains(in, []byte("NaN")) && !bytes.Contains(in, []byte("Infinity")) {
				t.Fatalf("%q is taken", in)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		raw, found := fields["text"]
		if found != (value.kind != 0) {
			t.Fatalf("%q: found %c", in, value.kind)
		}
		var want string
		if found && value.kind == '"' {
			if err := json.Unmarshal(raw, &want); err != nil {
				t.Fatal(err)
			}
			if got, _ := appendUnquoted(nil, value.raw); string(got) != want {
				t.Fatalf("%q: %q, want %q", in, got, want)
			}
		}
	})
}
