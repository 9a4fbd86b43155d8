package tokenizer

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// testAll runs the long tier.
var testAll = os.Getenv("DDPRUN_TEST_ALL") == "1"

func encodeOne(t *testing.T, tok *Tokenizer, text string, options Options) *Batch {
	t.Helper()
	batch, err := tok.EncodeBatch([]string{text}, options)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func TestEncodeNothing(t *testing.T) {
	tok := committed(t).tokenizer(t, "bert")
	batch, err := tok.EncodeBatch(nil, everything)
	if err != nil || len(batch.IDs) != 0 || !slices.Equal(batch.Starts, []int{0}) || !slices.Equal(batch.Firsts, []int{0}) {
		t.Errorf("no texts: %+v, %v", batch, err)
	}
	plain := encodeOne(t, tok, "", Options{NoSpecialTokens: true})
	if len(plain.IDs) != 0 || !slices.Equal(plain.Starts, []int{0, 0}) || plain.WordIDs != nil {
		t.Errorf("an empty text: %+v", plain)
	}
}

func TestEncodeErrors(t *testing.T) {
	tok := committed(t).tokenizer(t, "bert")
	if _, err := tok.EncodeBatch([]string{"a", "b", "c"}, Options{Pairs: true}); err == nil || !strings.Contains(err.Error(), "odd") {
		t.Errorf("three texts as pairs: %v", err)
	}
	for _, c := range []struct {
		texts []string
		pairs bool
		input int
	}{
		{[]string{"a\xffb"}, false, 0},
		{[]string{"", "b", "ab\xed\xa0\x80"}, false, 2},
		{[]string{"a", "b", "c", "\xc3"}, true, 1},
	} {
		_, err := tok.EncodeBatch(c.texts, Options{Pairs: c.pairs})
		var wrong *InputError
		if !errors.As(err, &wrong) || wrong.Input != c.input || !strings.Contains(err.Error(), "invalid UTF-8 at byte") {
			t.Errorf("%q: %v", c.texts, err)
		}
		if _, err := tok.EncodeBatch(c.texts, Options{Pairs: c.pairs, ReplaceInvalid: true}); err != nil {
			t.Errorf("%q with ReplaceInvalid: %v", c.texts, err)
		}
	}
}

// A word ends where whole-word masking must not go on; see the package's comment.
func TestWordStarts(t *testing.T) {
	g := committed(t)
	const text = "Don't colour the Prism, unrefracted-light  12."
	for family, want := range map[string][]string{
		"bert":   {"don", "'", "t", "colour", "the", "prism", ",", "unrefracted", "-", "light", "12", "."},
		"gpt2":   {"Don", "'t", " colour", " the", " Prism", ",", " unrefracted", "-", "light", " ", " 12", "."},
		"t5":     {"Don't", "colour", "the", "Prism,", "unrefracted-light", "12."},
		"llama3": {"Don", "'t", " colour", " the", " Prism", ",", " unrefracted", "-light", " ", " ", "12", "."},
	} {
		tok := g.tokenizer(t, family)
		if got := words(t, tok, encodeOne(t, tok, text, Options{NoSpecialTokens: true, WordStarts: true})); !slices.Equal(got, want) {
			t.Errorf("%s: words %q, want %q", family, got, want)
		}
	}
	tok := g.tokenizer(t, "llama") // no pre-tokenizer: words start at the sign for a space, which a run of spaces has first
	got := words(t, tok, encodeOne(t, tok, text, Options{NoSpecialTokens: true, WordStarts: true}))
	if want := []string{"Don't", "colour", "the", "Prism,", "unrefracted-light"}; !slices.Equal(got[:5], want) {
		t.Errorf("llama: words %q, want first %q", got, want)
	}
}

// words decodes the tokens of each word together.
func words(t *testing.T, tok *Tokenizer, batch *Batch) []string {
	t.Helper()
	var words []string
	for start := 0; start < len(batch.IDs); {
		end := start + 1
		for end < len(batch.IDs) && !batch.WordStarts[end] {
			end++
		}
		word, err := tok.Decode(batch.IDs[start:end], false)
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, word)
		start = end
	}
	return words
}

// Where there is a pre-tokenizer, words start exactly where the word id changes: the rule for Llama touches nothing else.
func TestWordStartsFollowWordIDs(t *testing.T) {
	g := committed(t)
	for _, family := range []string{"bert", "bert_cased", "roberta", "gpt2", "t5", "llama3"} {
		tok := g.tokenizer(t, family)
		for i, input := range g.inputs(t, "hostile") {
			batch := encodeOne(t, tok, input.T, everything)
			for k, start := range batch.WordStarts {
				word := batch.WordIDs[k]
				if want := word < 0 || k == 0 || word != batch.WordIDs[k-1]; start != want {
					t.Errorf("%s, text %d, token %d: starts a word is %t, by word ids %t", family, i, k, start, want)
				}
			}
		}
	}
}
