package main

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/tokenizer"
)

func gunzip(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestLongTexts: the tokens of a text that is cut are those of the whole, on the tokenizers' hostile inputs joined in many ways.
func TestLongTexts(t *testing.T) {
	const dir = "../../internal/tokenizer/testdata/"
	var hostile []string
	for line := range strings.Lines(string(gunzip(t, dir+"inputs.hostile.jsonl.gz"))) {
		var input struct{ T string }
		if err := json.Unmarshal([]byte(line), &input); err != nil {
			t.Fatal(err)
		}
		hostile = append(hostile, input.T)
	}
	if len(hostile) < 20 {
		t.Fatalf("%d inputs", len(hostile))
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, name := range []string{"bert", "bert_cased"} {
		raw := gunzip(t, dir+name+".json.gz")
		if !tokenizer.CutsAtSpaces(raw) {
			t.Fatalf("%s is said not to allow cuts", name)
		}
		tok, err := tokenizer.New(raw)
		if err != nil {
			t.Fatal(err)
		}
		defer tok.Close()
		var texts []string
		for range 300 {
			var b strings.Builder
			for range r.IntN(6) {
				b.WriteString(hostile[r.IntN(len(hostile))])
				b.WriteString([]string{"", " ", "\n", " \u0301", "\n\u0301a", "  ", " [MASK] "}[r.IntN(7)])
			}
			texts = append(texts, b.String())
		}
		whole := encoder{tok: tok}
		want, err := whole.Encode(texts)
		if err != nil {
			t.Fatal(err)
		}
		cuts := 0
		for _, piece := range []int{1, 7, 100} {
			cutting := encoder{tok: tok, piece: piece}
			got, err := cutting.Encode(texts)
			if err != nil {
				t.Fatal(err)
			}
			pieces, _ := cutting.cut(texts)
			cuts += len(pieces) - len(texts)
			for i := range texts {
				if len(got[i].IDs)+len(want[i].IDs) > 0 && !reflect.DeepEqual(got[i], want[i]) {
					t.Fatalf("%s, pieces of %d: %q\n%v\nwant\n%v", name, piece, texts[i], got[i], want[i])
				}
			}
		}
		if cuts < 1000 {
			t.Errorf("%d cuts", cuts)
		}
	}
	for _, name := range []string{"gpt2", "llama", "llama3", "roberta", "t5"} {
		if tokenizer.CutsAtSpaces(gunzip(t, dir+name+".json.gz")) {
			t.Errorf("%s makes spaces part of its tokens", name)
		}
	}
}
