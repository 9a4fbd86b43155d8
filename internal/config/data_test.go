package config

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestDataStreams(t *testing.T) {
	text := "model: m\noutput_dir: o\ndata:\n" +
		"  - {path: wiki/*.txt, name: wiki}\n  - path: [a.txt, ~/b.txt]\n    weight: 2.5\n  - {path: c.jsonl, weight: 0.25}\n"
	t.Setenv("HOME", "/home/me")
	loaded, err := Load(write(t, text), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Data{{Name: "wiki", Paths: []string{"wiki/*.txt"}, Weight: 1}, {Paths: []string{"a.txt", "/home/me/b.txt"}, Weight: 2.5},
		{Paths: []string{"c.jsonl"}, Weight: 0.25}}
	if got := loaded.Config.Data; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// What is printed, or kept in a checkpoint, is read back.
	var printed strings.Builder
	if err := loaded.Print(&printed); err != nil {
		t.Fatal(err)
	}
	again, err := Load(write(t, printed.String()), nil, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, printed.String())
	}
	if again.Config.Digest() != loaded.Config.Digest() {
		t.Errorf("print-config is read as another configuration:\n%s", printed.String())
	}
	raw, err := json.Marshal(loaded.Config)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := Decode(raw)
	if err != nil || !reflect.DeepEqual(decoded.Data, want) {
		t.Errorf("%+v (%v), want %+v", decoded, err, want)
	}
	set, err := Load(write(t, text), []string{"data=[{path: x, share: 1}, {path: y, share: 3}]"}, nil)
	if err != nil || len(set.Config.Data) != 2 || set.Config.Data[1].Share != 3 {
		t.Errorf("--set gives %+v (%v)", set, err)
	}
}

// One stream without a weight is in checkpoints what it has always been.
func TestPlainDataIsAListOfPaths(t *testing.T) {
	raw, err := json.Marshal(DataOf("a.txt", "b.txt"))
	if err != nil || string(raw) != `["a.txt","b.txt"]` {
		t.Errorf("%s (%v)", raw, err)
	}
}

func TestDataIsRefused(t *testing.T) {
	for value, words := range map[string][]string{
		"[{path: a, wieght: 2}]":                   {":3: ", "data.wieght", "name, path, share, weight"},
		"[{name: a}]":                              {"stream 1", "empty path or none"},
		"[{path: a}, b.txt]":                       {":3: ", "want a map", "b.txt"},
		"[{path: a, weight: 0}]":                   {"weight above 0"},
		"[{path: a, weight: -1}]":                  {"weight above 0"},
		"[{path: a, weight: much}]":                {"data.weight", "want a number"},
		"[{path: a, share: 1}, {path: b}]":         {"1 of 2 streams have a share"},
		"[{path: a, share: 1, weight: 1}]":         {"both weight and share"},
		"[{path: a, share: 0}]":                    {"share must be above 0"},
		"[{path: a, name: x}, {path: b, name: x}]": {"two streams", `"x"`},
		"[{path: a, name: 'x y'}]":                 {"letters, digits"},
		"[{path: {a: b}}]":                         {"data.path"},
		"{path: a}":                                {"want text or a list"},
		"[{path: a, weight: .inf}]":                {"finite"},
		"[{path: a, weight: 1, weight: 2}]":        {"weight", "stands twice"},
	} {
		_, err := Load(write(t, "model: m\noutput_dir: o\ndata: "+value+"\n"), nil, nil)
		if err == nil {
			t.Errorf("%s is taken", value)
			continue
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: the error %q does not say %q", value, err, word)
			}
		}
	}
}
