package hf

import (
	"reflect"
	"testing"
)

func TestParseMerges(t *testing.T) {
	vocab := map[string]int{"a": 0, "b": 1, "ab": 2, "aba": 3}
	got, err := parseMerges("#version: 0.2\na b\r\nab a", vocab)
	if want := [][2]string{{"a", "b"}, {"ab", "a"}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
}

func FuzzParseMerges(f *testing.F) {
	for _, seed := range []string{"", "#version\na b\n", "a b c", "a  b", " ", "\r\n"} {
		f.Add(seed, `{"a":0,"b":1,"ab":2,"":3}`)
	}
	f.Fuzz(func(t *testing.T, text, vocabJSON string) {
		vocab, err := parseBPEVocab([]byte(vocabJSON))
		if err != nil {
			return
		}
		merges, err := parseMerges(text, vocab)
		if err != nil {
			return
		}
		for _, m := range merges {
			if _, ok := vocab[m[0]+m[1]]; !ok {
				t.Fatalf("merge %q makes no token", m)
			}
		}
	})
}
