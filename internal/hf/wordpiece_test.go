package hf

import (
	"reflect"
	"testing"
)

func TestParseWordPieceVocab(t *testing.T) {
	got, err := parseWordPieceVocab("[PAD]\r\na \nb\n\na\n")
	if want := map[string]int{"[PAD]": 0, "a": 4, "b": 2, "": 3}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
}

func FuzzParseWordPieceVocab(f *testing.F) {
	for _, seed := range []string{"", "\n", "a\nb\r\n c \n\n", "\u00a0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		vocab, err := parseWordPieceVocab(text)
		if (err == nil) != (len(vocab) > 0) {
			t.Fatalf("%q gave %d tokens and %v", text, len(vocab), err)
		}
		for token, id := range vocab {
			if id < 0 || id > len(text) {
				t.Fatalf("token %q has id %d of a text of %d bytes", token, id, len(text))
			}
		}
	})
}
