package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLoneSurrogate(t *testing.T) {
	for text, want := range map[string]int{
		`"plain"`:              -1,
		`"\ud83d\ude00"`:       -1,
		`"\uD83D\uDE00"`:       -1,
		`"\ud83d"`:             1,
		`"\ude00"`:             1,
		`"\ud83d\ud83d\ude00"`: 1,
		`"\ud83d\u0041"`:       1,
		`"\ud83dxxxxxx"`:       1,
		`"\\ud83d"`:            -1,
		`"\\\ud83d"`:           3,
		`"\n\u0041\ude00"`:     9,
		`"\u00"`:               -1,
		`\`:                    -1,
		`\u`:                   -1,
	} {
		if got := loneSurrogate(text); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

// encoding/json writes U+FFFD for a lone surrogate and nowhere else, if the text has none itself.
func FuzzLoneSurrogate(f *testing.F) {
	for _, seed := range []string{`\ud83d\ude00`, `\\ud800`, `\ud800\\udc00`, `a\udfff`, `\u0000\"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, inner string) {
		text := `"` + inner + `"`
		var value string
		if !utf8.ValidString(text) || strings.Contains(strings.ToLower(text), `\ufffd`) || strings.Contains(text, "\ufffd") {
			return
		}
		if json.Unmarshal([]byte(text), &value) != nil {
			return
		}
		if got, want := loneSurrogate(text) >= 0, strings.Contains(value, "\ufffd"); got != want {
			t.Errorf("%s: lone surrogate %t, want %t", text, got, want)
		}
	})
}

func TestLineReaderNumbersLines(t *testing.T) {
	const lines = 20_000
	var input strings.Builder
	for i := range lines {
		fmt.Fprintf(&input, "line %d\n", i+1)
	}
	reader := newLineReader(strings.NewReader(input.String()), tokenizeOptions{})
	next, chunks := 1, 0
	for {
		c, err := reader.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		chunks++
		for i, text := range c.texts {
			if want := fmt.Sprintf("line %d", next); text != want || c.firstLine+i != next {
				t.Fatalf("line %d is %q, want %q", c.firstLine+i, text, want)
			}
			next++
		}
	}
	if next != lines+1 || chunks < 2 {
		t.Errorf("%d lines in %d chunks", next-1, chunks)
	}
}

// An error of the input comes after the lines before it.
func TestLineReaderReadError(t *testing.T) {
	broken := errors.New("the wire is cut")
	reader := newLineReader(io.MultiReader(strings.NewReader("a\nb"), failingReader{broken}), tokenizeOptions{})
	if c, err := reader.next(); err != nil || len(c.texts) != 1 || c.texts[0] != "a" {
		t.Fatalf("%v, %v", c, err)
	}
	_, err := reader.next()
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "line 2") || exitCode(err) != 1 {
		t.Errorf("%v", err)
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }
