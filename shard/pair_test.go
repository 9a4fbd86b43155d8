package shard

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// story is documents of the given numbers of sentences; every sentence's first word is its own.
func story(sentences ...int) string {
	var b strings.Builder
	n := 0
	for _, count := range sentences {
		for range count {
			fmt.Fprintf(&b, "s%d %s\n", n, strings.Repeat("abc ", n%5))
			n++
		}
		b.WriteString("\n")
	}
	return b.String()
}

// naivePairs are the pairs of a story, computed without shards.
func naivePairs(t *testing.T, text string, max int) (pairs [][2][]uint32) {
	t.Helper()
	for _, document := range strings.Split(strings.TrimSpace(text), "\n\n") {
		encodings, err := testEncoder{vocab: 30000}.Encode(strings.Split(document, "\n"))
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(encodings); i++ {
			a, b := encodings[i-1].IDs, encodings[i].IDs
			pairs = append(pairs, [2][]uint32{a[:min(max, len(a))], b[:min(max, len(b))]})
		}
	}
	return pairs
}

func TestPairs(t *testing.T) {
	text := story(1, 3, 2, 1, 7, 1)
	for _, shardBytes := range []int64{1, 20, 1 << 20} {
		for _, max := range []int{1, 3, 100} {
			_, corpus := corpusOf(t, text, func(c *PrepareConfig) { c.ShardBytes = shardBytes })
			s := samplesOf(t, corpus, SampleConfig{Unit: Pair, MaxTokens: max})
			want := naivePairs(t, text, max)
			if s.Len() != int64(len(want)) || len(want) != 2+1+6 {
				t.Fatalf("%d pairs, want %d", s.Len(), len(want))
			}
			tokens := int64(0)
			var got Sample
			for i, pair := range want {
				if err := s.At(int64(i), &got); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got.Tokens, pair[0]) || !slices.Equal(got.Next, pair[1]) || len(got.WordStart) != len(got.Tokens) ||
					len(got.NextWordStart) != len(got.Next) || !got.WordStart[0] || !got.NextWordStart[0] {
					t.Errorf("shards of %d, at most %d: pair %d is %+v, want %v", shardBytes, max, i, got, pair)
				}
				if n, err := s.Tokens(int64(i)); err != nil || n != len(pair[0])+len(pair[1]) {
					t.Errorf("pair %d has %d tokens (%v), want %d", i, n, err, len(pair[0])+len(pair[1]))
				}
				tokens += int64(len(pair[0]) + len(pair[1]))
			}
			if r := s.Report(); r.Tokens != tokens || r.LeftOut != 0 || (r.Cut > 0) != (max < 100) {
				t.Errorf("at most %d: report %+v, %d tokens", max, r, tokens)
			}
		}
	}
}

// A pair of which one sentence holds nothing to train on is left out.
func TestPairsKeep(t *testing.T) {
	text := story(4, 3)
	_, corpus := corpusOf(t, text, nil)
	all := naivePairs(t, text, 9)
	bad := all[1][0] // the second sentence: in pairs 0 and 1
	s := samplesOf(t, corpus, SampleConfig{Unit: Pair, MaxTokens: 9, KeepDigest: "not that one",
		Keep: func(tokens []uint32) bool { return !slices.Equal(tokens, bad) }})
	if r := s.Report(); r.LeftOut != 2 || s.Len() != int64(len(all))-2 {
		t.Fatalf("report %+v of %d pairs", r, len(all))
	}
	var got Sample
	if err := s.At(0, &got); err != nil || !slices.Equal(got.Tokens, all[2][0]) {
		t.Errorf("pair 0 is %+v (%v), want %v", got, err, all[2])
	}
}

func TestPairsOfSingleSentences(t *testing.T) {
	_, corpus := corpusOf(t, story(1, 1, 1), nil)
	_, err := corpus.Samples(context.Background(), SampleConfig{Unit: Pair, MaxTokens: 9})
	wantError(t, err, "no document has two sentences", "sentence_unit", "text_unit")
	_, err = corpus.Samples(context.Background(), SampleConfig{Unit: Pair, MaxTokens: 9, Long: LongSplit})
	wantError(t, err, "cannot be split")
}

// documents returns the document of each pair.
func documents(t *testing.T, s *Samples) []int64 {
	t.Helper()
	out := make([]int64, s.Len())
	for i := range out {
		o, err := s.Origin(int64(i))
		if err != nil {
			t.Fatal(err)
		}
		out[i] = o.Document
	}
	return out
}

// pools calls f with every sample of an epoch and its pool.
func pools(t *testing.T, o *Order, epoch int64, f func(sample int64, p Pool)) {
	t.Helper()
	var indices []int64
	for step := range o.StepsPerEpoch() {
		for lane := range o.cfg.Lanes {
			indices = o.MicroBatch(epoch, step, lane, indices)
			for at, i := range indices {
				f(i, o.Pool(epoch, lane, step*o.BatchSize()+int64(at)))
			}
		}
	}
}

// A sample's pool holds the sample, and is a window of its lane.
func TestPool(t *testing.T) {
	for _, shuffle := range []bool{false, true} {
		for _, samples := range []int64{1, 15, 16, 17, 1000, 40000} {
			o, err := NewOrder(OrderConfig{Samples: samples, Lanes: 3, BatchSize: 4, Seed: 7, Shuffle: shuffle})
			if err != nil {
				t.Fatal(err)
			}
			pools(t, o, 1, func(i int64, p Pool) {
				found := false
				for k := range p.length {
					found = found || p.at(k) == i
				}
				if !found || p.length > windowBlocks*o.blockSize {
					t.Fatalf("%d samples, shuffled %v: sample %d is not among the %d of its pool", samples, shuffle, i, p.length)
				}
			})
		}
	}
	o, err := NewEvalOrder(40000, 8)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int64{0, 16383, 16384, 39999} {
		if p := o.Pool(i); p.start > i || p.start+p.length <= i || p.start+p.length > 40000 {
			t.Errorf("the pool of sample %d of the evaluation begins at %d and has %d", i, p.start, p.length)
		}
	}
}

// Negatives are uniform over the pool's sentences of other documents: chi-square over 1e5 draws.
func TestNegativeIsUniform(t *testing.T) {
	_, corpus := corpusOf(t, story(4, 9, 3, 6, 2, 5, 8), nil)
	s := samplesOf(t, corpus, SampleConfig{Unit: Pair, MaxTokens: 20})
	docs, set := documents(t, s), oneStream(t, s)
	o, err := NewEvalOrder(s.Len(), 4)
	if err != nil {
		t.Fatal(err)
	}
	for _, anyDocument := range []bool{false, true} {
		const i, draws = 5, 100000
		counts := make([]float64, s.Len())
		for draw := range uint64(draws) {
			j, err := set.Negative(o.Pool(i), 0, i, draw*0x9e3779b97f4a7c15, anyDocument)
			if err != nil {
				t.Fatal(err)
			}
			counts[j.Sample]++
		}
		fit := 0
		for j := range counts {
			apart := docs[j] != docs[i] || anyDocument && j != i && j != i-1
			if apart {
				fit++
			} else if counts[j] > 0 {
				t.Errorf("any %v: pair %d was drawn for pair %d", anyDocument, j, i)
			}
		}
		chi, want := 0.0, draws/float64(fit)
		for j, n := range counts {
			if docs[j] != docs[i] || anyDocument && j != i && j != i-1 {
				chi += (n - want) * (n - want) / want
			}
		}
		// The 0.9999 quantile by Wilson and Hilferty.
		k := float64(fit - 1)
		if limit := k * math.Pow(1-2/(9*k)+3.719*math.Sqrt(2/(9*k)), 3); chi > limit {
			t.Errorf("any %v: chi-square %.1f with %d degrees of freedom, limit %.1f", anyDocument, chi, fit-1, limit)
		}
	}
}

// In every epoch, each pair gets a sentence of another document out of its window, or where that is of one document, out of what follows; the same
// for any one who asks.
func TestNegativeInTheOrder(t *testing.T) {
	_, corpus := corpusOf(t, story(200, 30, 2, 180), nil)
	s := samplesOf(t, corpus, SampleConfig{Unit: Pair, MaxTokens: 20})
	docs, set := documents(t, s), oneStream(t, s)
	outside := 0
	for _, shuffle := range []bool{true, false} {
		order := func() *Order {
			o, err := NewOrder(OrderConfig{Samples: s.Len(), Lanes: 2, BatchSize: 3, Seed: 1, Shuffle: shuffle})
			if err != nil {
				t.Fatal(err)
			}
			return o
		}
		one, other := order(), order()
		for epoch := range int64(3) {
			pools(t, one, epoch, func(i int64, p Pool) {
				draw := uint64(i) * 77777
				ref, err := set.Negative(p, epoch, i, draw, false)
				if err != nil {
					t.Fatal(err)
				}
				j := ref.Sample
				if docs[j] == docs[i] {
					t.Fatalf("pair %d got pair %d of its document", i, j)
				}
				inside := false
				for k := range p.length {
					inside = inside || p.at(k) == j
				}
				if !inside {
					outside++
					for k := range p.length {
						if docs[p.at(k)] != docs[i] {
							t.Fatalf("pair %d got pair %d from outside its window, which holds %d", i, j, p.at(k))
						}
					}
				}
				p.order = other
				if again, _ := set.Negative(p, epoch, i, draw, false); again != ref {
					t.Fatalf("pair %d: %d and %d", i, j, again)
				}
			})
		}
	}
	if outside == 0 {
		t.Error("no window was of one document: the test shows nothing")
	}
}

func TestFillNext(t *testing.T) {
	_, corpus := corpusOf(t, story(4, 9), nil)
	s := samplesOf(t, corpus, SampleConfig{Unit: Pair, MaxTokens: 20})
	var a, b Sample
	if err := s.At(1, &a); err != nil {
		t.Fatal(err)
	}
	if err := s.At(7, &b); err != nil {
		t.Fatal(err)
	}
	first := slices.Clone(a.Tokens)
	if err := oneStream(t, s).FillNext(Ref{0, 7}, &a); err != nil || !slices.Equal(a.Tokens, first) || !slices.Equal(a.Next, b.Next) || !slices.Equal(a.NextWordStart, b.NextWordStart) {
		t.Errorf("got %+v (%v), want the sentence of %+v", a, err, b)
	}
}

func TestCheckNegatives(t *testing.T) {
	for _, c := range []struct {
		sentences   []int
		anyDocument bool
		want        string
	}{
		{[]int{5, 2}, false, ""},
		{[]int{1, 2, 1, 2}, false, ""},
		{[]int{9}, false, "nsp_negatives: any"},
		{[]int{1, 9, 1}, false, "one document"},
		{[]int{9}, true, ""},
		{[]int{5}, true, ""},
		{[]int{4}, true, "too few"},
	} {
		_, corpus := corpusOf(t, story(c.sentences...), nil)
		s := samplesOf(t, corpus, SampleConfig{Unit: Pair, MaxTokens: 20})
		err := oneStream(t, s).CheckNegatives(c.anyDocument)
		if c.want != "" {
			wantError(t, err, c.want)
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", c.sentences, err)
			continue
		}
		o, err := NewEvalOrder(s.Len(), 1)
		if err != nil {
			t.Fatal(err)
		}
		for i := range s.Len() {
			if _, err := oneStream(t, s).Negative(o.Pool(i), 0, i, 3, c.anyDocument); err != nil {
				t.Errorf("%v: %v", c.sentences, err)
			}
		}
	}
}

// The digest of pairs is not that of other samples, and a damaged index gives an error.
func TestPairIndexIsItsOwn(t *testing.T) {
	report, corpus := corpusOf(t, story(4, 9), nil)
	pairs := samplesOf(t, corpus, SampleConfig{Unit: Pair, MaxTokens: 20})
	sentences := samplesOf(t, corpus, SampleConfig{Unit: Sentence, MaxTokens: 20, Long: LongTruncate})
	if pairs.Digest() == sentences.Digest() || filepath.Dir(pairs.path) != report.Dir || pairs.path == sentences.path {
		t.Errorf("pairs in %s, sentences in %s", pairs.path, sentences.path)
	}
	file, start, _, err := sentences.locate(3) // the last sentence of the first document begins no pair
	if err != nil {
		t.Fatal(err)
	}
	var out Sample
	wantError(t, pairs.pairAt(file, start, &out), "no pair of sentences begins", pairs.path)
}
