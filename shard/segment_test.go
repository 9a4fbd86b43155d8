package shard

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func segmenter(t testing.TB) func(string) []string {
	t.Helper()
	s, err := Segmenter()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSegmenter(t *testing.T) {
	cut := segmenter(t)
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{" \n\t\n ", nil},
		{"One. Two! Three?", []string{"One.", "Two!", "Three?"}},
		{"Mr. Smith went to the U.S. He liked e.g. prisms.", []string{"Mr. Smith went to the U.S.", "He liked e.g. prisms."}},
		{"a line that is\nbroken ends. Nothing\n", []string{"a line that is broken ends.", "Nothing"}},
		{"A HEADING\n\nText follows.", []string{"A HEADING", "Text follows."}},
		{"日本語です。次の文です。", []string{"日本語です。", "次の文です。"}},
	} {
		if got := cut(c.text); !slices.Equal(got, c.want) {
			t.Errorf("%q is cut into %q, want %q", c.text, got, c.want)
		}
	}
}

// What is cut holds every word of the text, in order, also where several cut at once.
func TestSegmenterLosesNothing(t *testing.T) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "src/testdata/Isaac.Newton-Opticks.txt"))
	if err != nil {
		t.Skip("this installation of Go has no Opticks: ", err)
	}
	cut := segmenter(t)
	text := strings.ReplaceAll(string(raw), "\r\n", "\n")
	want := strings.Fields(text)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			got := cut(text)
			if n := len(got); n < 2000 || n > 4000 {
				t.Errorf("%d sentences", n)
			}
			if !slices.Equal(strings.Fields(strings.Join(got, " ")), want) {
				t.Error("the sentences' words are not the text's")
			}
		})
	}
	all.Wait()
}

func FuzzSegmenter(f *testing.F) {
	cut := segmenter(f)
	for _, text := range []string{"", "A. B.", "a\n\nb", "...", "\u00a0. \"x.\" y", "日本。"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range cut(text) {
			if strings.TrimSpace(s) == "" || strings.Contains(s, "\n") {
				t.Errorf("%q has the sentence %q", text, s)
			}
		}
	})
}
