package shard

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const separator = 29999

// naiveGroups are the windows over documents, computed token by token.
func naiveGroups(documents [][]uint32, longest int) (windows [][]uint32) {
	var window []uint32
	end := func() {
		if len(window) > 0 {
			windows = append(windows, window)
			window = nil
		}
	}
	for _, document := range documents {
		for i, token := range document {
			if i == 0 && len(window) > 0 {
				if len(window)+2 > longest {
					end()
				} else {
					window = append(window, separator)
				}
			}
			if window = append(window, token); len(window) == longest {
				end()
			}
		}
	}
	end()
	return windows
}

// Windows go on over documents with a separator between two; every token is in exactly one, whatever the lengths.
func TestGroups(t *testing.T) {
	r := rand.New(rand.NewPCG(51, 52))
	for range 30 {
		var text strings.Builder
		var documents [][]uint32
		for range 1 + r.IntN(40) {
			var words []string
			for range 1 + r.IntN(12) {
				words = append(words, fmt.Sprint("w", r.IntN(90)))
			}
			one := strings.Join(words, " ")
			encoding, err := testEncoder{vocab: 29999}.Encode([]string{one})
			if err != nil {
				t.Fatal(err)
			}
			documents = append(documents, encoding[0].IDs)
			text.WriteString(one + "\n\n")
		}
		_, corpus := corpusOf(t, text.String(), func(c *PrepareConfig) { c.Encoder = testEncoder{vocab: 29999} })
		for _, longest := range []int{1, 2, 3, 7, 16, 1000} {
			s := samplesOf(t, corpus, SampleConfig{Unit: Window, MaxTokens: longest, Group: true, Separator: separator})
			want := naiveGroups(documents, longest)
			if s.Len() != int64(len(want)) {
				t.Fatalf("windows of %d: %d of them, want %d", longest, s.Len(), len(want))
			}
			total := int64(0)
			var got Sample
			for i, window := range want {
				if err := s.At(int64(i), &got); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got.Tokens, window) || len(got.WordStart) != len(window) || !got.WordStart[0] {
					t.Fatalf("windows of %d: number %d is %v, want %v", longest, i, got.Tokens, window)
				}
				for at, token := range got.Tokens {
					if token == separator && (!got.WordStart[at] || at == 0 || at == len(got.Tokens)-1) {
						t.Fatalf("a separator is at %d of %d", at, len(got.Tokens))
					}
				}
				if n, err := s.Tokens(int64(i)); n != len(window) || err != nil {
					t.Fatalf("window %d has %d tokens (%v), want %d", i, n, err, len(window))
				}
				total += int64(len(window))
			}
			if r := s.Report(); r.Tokens != total {
				t.Errorf("the report says %d tokens, there are %d", r.Tokens, total)
			}
		}
	}
}

// Windows stay inside a shard, so that a rank reads one for a sample.
func TestGroupsStayInAShard(t *testing.T) {
	text := strings.Repeat("one two three\n\n", 200)
	_, corpus := corpusOf(t, text, func(c *PrepareConfig) { c.ShardBytes = 100 })
	s := samplesOf(t, corpus, SampleConfig{Unit: Window, MaxTokens: 10, Group: true, Separator: separator})
	if len(corpus.shards) < 5 {
		t.Fatalf("%d shards are too few to show anything", len(corpus.shards))
	}
	tokens := 0
	var got Sample
	for i := range s.Len() {
		if err := s.At(i, &got); err != nil {
			t.Fatal(err)
		}
		for _, token := range got.Tokens {
			if token != separator {
				tokens++
			}
		}
	}
	if int64(tokens) != corpus.Counts().Tokens {
		t.Errorf("the windows hold %d tokens, the corpus %d", tokens, corpus.Counts().Tokens)
	}
}

// What groups differs in digest from what does not, and only windows can.
func TestGroupsAreNamed(t *testing.T) {
	_, corpus := corpusOf(t, "one two\n\nthree four\n", nil)
	seen := map[string]bool{}
	for _, cfg := range []SampleConfig{{Unit: Window, MaxTokens: 9}, {Unit: Window, MaxTokens: 9, Group: true, Separator: 1}, {Unit: Window, MaxTokens: 9, Group: true, Separator: 2}} {
		digest := samplesOf(t, corpus, cfg).Digest()
		if seen[digest] {
			t.Errorf("%+v has the digest of another", cfg)
		}
		seen[digest] = true
	}
	_, err := corpus.Samples(context.Background(), SampleConfig{Unit: Document, MaxTokens: 9, Group: true})
	wantError(t, err, "documents are of one document")
}

// Documents that do not count are in no window, and no separator stands for them.
func TestGroupsOfASet(t *testing.T) {
	_, corpus := corpusOf(t, "one two\n\nlong long long long long long long\n\nthree four\n\nlong long long long long long long\n", nil)
	sets := clean(t, []*Corpus{corpus}, nil, CleanConfig{MaxTokens: 5}).Training[0]
	s := samplesOf(t, corpus, SampleConfig{Unit: Window, MaxTokens: 20, Group: true, Separator: separator, Documents: sets})
	encodings, err := testEncoder{vocab: 30000}.Encode([]string{"one two", "three four"})
	if err != nil {
		t.Fatal(err)
	}
	var got Sample
	if err := s.At(0, &got); err != nil {
		t.Fatal(err)
	}
	if want := slices.Concat(encodings[0].IDs, []uint32{separator}, encodings[1].IDs); s.Len() != 1 || !slices.Equal(got.Tokens, want) {
		t.Errorf("%d windows, the first %v, want %v", s.Len(), got.Tokens, want)
	}
}
