package objectives

import (
	"slices"
	"strings"
	"testing"
)

func mustPair(t testing.TB, c PairConfig, v Vocab) *Pair {
	t.Helper()
	p, err := NewPair(c, v)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pairSample is a pair of n and m tokens, each token its own.
func pairSample(n, m int) Sample {
	s := Sample{ID: 9}
	for i := range n {
		s.Tokens, s.WordStart = append(s.Tokens, uint32(5+i)), append(s.WordStart, i%2 == 0)
	}
	for i := range m {
		s.Next, s.NextWordStart = append(s.Next, uint32(5+n+i)), append(s.NextWordStart, i%3 == 0)
	}
	return s
}

func TestNewPairRefuses(t *testing.T) {
	noSEP, noMask := tinyVocab, tinyVocab
	noSEP.SEP, noMask.Mask = NoToken, NoToken
	for _, c := range []struct {
		config PairConfig
		vocab  Vocab
		want   string
	}{
		{PairConfig{Task: "order", MaxTokens: 9}, tinyVocab, `not "order"`},
		{PairConfig{Task: NSP, MaxTokens: 4}, tinyVocab, "too few for a pair"},
		{PairConfig{Task: NSP, MaxTokens: 9, PositionOffset: -1}, tinyVocab, "offset"},
		{PairConfig{Task: SOP, MaxTokens: 9}, noSEP, "objective sop"},
		{PairConfig{Task: NSP, MaxTokens: 9, MLM: &usual}, noMask, "no mask token"},
		{PairConfig{Task: NSP, MaxTokens: 9}, Vocab{}, "size 0"},
	} {
		if _, err := NewPair(c.config, c.vocab); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want %q", c.config, err, c.want)
		}
	}
	mustPair(t, PairConfig{Task: NSP, MaxTokens: 9}, noMask) // hides nothing
}

func TestPairAppend(t *testing.T) {
	for _, task := range []PairTask{NSP, SOP} {
		p := mustPair(t, PairConfig{Task: task, MaxTokens: 20, PositionOffset: 2}, tinyVocab)
		var b Batch
		b.Reset()
		classes := map[int64]bool{}
		for epoch := range uint64(20) {
			at := len(b.IDs)
			if err := p.Append(&b, pairSample(2, 3), Key{Epoch: epoch}); err != nil {
				t.Fatal(err)
			}
			class := b.PairLabels[epoch]
			classes[class] = true
			want := []int64{2, 5, 6, 3, 7, 8, 9, 3}
			types := []int64{0, 0, 0, 0, 1, 1, 1, 1}
			if task == SOP && class == 1 {
				want, types = []int64{2, 7, 8, 9, 3, 5, 6, 3}, []int64{0, 0, 0, 0, 0, 1, 1, 1}
			}
			if !slices.Equal(b.IDs[at:], want) || !slices.Equal(b.TypeIDs[at:], types) || !slices.Equal(b.Positions[at:], []int64{2, 3, 4, 5, 6, 7, 8, 9}) {
				t.Errorf("%s, class %d: ids %v, types %v, positions %v", task, class, b.IDs[at:], b.TypeIDs[at:], b.Positions[at:])
			}
			if negative, _ := p.Draw(Key{Epoch: epoch}); negative != (task == NSP && class == 1) {
				t.Errorf("%s, class %d: Draw says %v", task, class, negative)
			}
			if b.PairSamples[epoch] != int64(epoch) || len(b.Labels) > 0 {
				t.Errorf("samples %v, labels %v", b.PairSamples, b.Labels)
			}
		}
		if len(classes) != 2 {
			t.Errorf("%s: classes %v", task, classes)
		}
	}
}

// The truncation takes one token after the other from the longer sentence; of two as long, from the one that was the shorter, or the first.
func TestLongestFirst(t *testing.T) {
	for n := range 13 {
		for m := range 13 {
			for most := range 27 {
				wantN, wantM := n, m
				for wantN+wantM > most {
					if wantN > wantM || wantN == wantM && n <= m {
						wantN--
					} else {
						wantM--
					}
				}
				if gotN, gotM := longestFirst(n, m, most); gotN != wantN || gotM != wantM {
					t.Errorf("%d and %d tokens to %d: %d and %d, want %d and %d", n, m, most, gotN, gotM, wantN, wantM)
				}
			}
		}
	}
}

func TestPairTruncates(t *testing.T) {
	p := mustPair(t, PairConfig{Task: NSP, MaxTokens: 8, MLM: &MLMConfig{Probability: 1, WholeWordMask: true}}, tinyVocab)
	var b Batch
	b.Reset()
	if err := p.Append(&b, pairSample(2, 9), Key{}); err != nil {
		t.Fatal(err)
	}
	if want := []int64{2, 5, 6, 3, 7, 8, 9, 3}; !slices.Equal(b.IDs, want) {
		t.Errorf("got %v, want %v", b.IDs, want)
	}
	if want := []int64{1, 2, 4, 5, 6}; !slices.Equal(b.Labelled, want) {
		t.Errorf("labelled %v, want %v", b.Labelled, want)
	}
}

func TestPairAppendRefuses(t *testing.T) {
	p := mustPair(t, PairConfig{Task: NSP, MaxTokens: 20, MLM: &MLMConfig{Probability: 0.15, WholeWordMask: true}}, tinyVocab)
	var b Batch
	b.Reset()
	for want, change := range map[string]func(*Sample){
		"sample 9: a pair of 0 and 3 tokens": func(s *Sample) { s.Tokens = nil },
		"a pair of 2 and 0 tokens":           func(s *Sample) { s.Next = nil },
		"another tokenizer":                  func(s *Sample) { s.Next[1] = 30 },
		"whole_word_mask: 2 and 0":           func(s *Sample) { s.NextWordStart = nil },
	} {
		s := pairSample(2, 3)
		change(&s)
		if err := p.Append(&b, s, Key{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if b.Tokens() > 0 || b.Samples() > 0 || len(b.PairLabels) > 0 {
		t.Errorf("a refused pair left %+v", b)
	}
	// Nothing of the truncated pair can be hidden: the pair still has a class.
	s := Sample{Tokens: []uint32{unknown, unknown, unknown, 9}, Next: []uint32{unknown, unknown, unknown, 9},
		WordStart: make([]bool, 4), NextWordStart: make([]bool, 4)}
	short := mustPair(t, PairConfig{Task: NSP, MaxTokens: 7, MLM: &usual}, tinyVocab)
	if err := short.Append(&b, s, Key{}); err != nil || len(b.Labels) != 0 || len(b.PairLabels) != 1 {
		t.Errorf("error %v, labels %v, classes %v", err, b.Labels, b.PairLabels)
	}
}

// Over 1e5 pairs: classes are half and half, don't depend on their neighbours', on what is masked or on the bits that choose the random
// sentence; and masks are those of MLM, in both sentences alike.
func TestPairChances(t *testing.T) {
	const samples = 100000
	p := mustPair(t, PairConfig{Task: NSP, MaxTokens: 40, MLM: &usual}, bertVocab)
	s := pairSample(6, 9)
	for i := range s.Tokens {
		s.Tokens[i] += 1000
	}
	for i := range s.Next {
		s.Next[i] += 1000
	}
	var b Batch
	classes, bits := make([]float64, 4), make([]float64, 32)
	masked := make([]float64, 4) // by class and whether the first maskable token is labelled
	places := make([]float64, 15)
	previous, labels := int64(0), 0.0
	for i := range uint64(samples) {
		b.Reset()
		key := Key{Seed: 3, Epoch: i % 7, Sample: i}
		if err := p.Append(&b, s, key); err != nil {
			t.Fatal(err)
		}
		class := b.PairLabels[0]
		negative, choice := p.Draw(key)
		if negative != (class == 1) {
			t.Fatalf("class %d, and Draw says %v", class, negative)
		}
		classes[2*previous+class]++
		previous = class
		bits[class<<4|int64(choice>>60)]++
		if slices.Contains(b.Labelled, 1) {
			masked[2*class]++
		} else {
			masked[2*class+1]++
		}
		for _, at := range b.Labelled {
			place := at - 1
			if place > 6 {
				place-- // the SEP between
			}
			places[place]++
			labels++
		}
	}
	quarter := slices.Repeat([]float64{samples / 4}, 4)
	checkChiSquare(t, "class after class", classes, quarter)
	checkChiSquare(t, "class and choice", bits, slices.Repeat([]float64{samples / 32}, 32))
	// Of 15 tokens none is selected with probability q; then each is with 1/15.
	none := binomial(15, 0, 0.15)
	hit := 0.15 + none/15
	checkChiSquare(t, "class and mask", masked, []float64{samples / 2 * hit, samples / 2 * (1 - hit), samples / 2 * hit, samples / 2 * (1 - hit)})
	checkChiSquare(t, "places of masks", places, slices.Repeat([]float64{labels / 15}, 15))
}

func TestPairAllocatesNothing(t *testing.T) {
	p := mustPair(t, PairConfig{Task: NSP, MaxTokens: 40, MLM: &usual}, tinyVocab)
	s := pairSample(6, 9)
	var b Batch
	var objective Objective = p
	fill := func() {
		b.Reset()
		for i := range uint64(8) {
			if err := objective.Append(&b, s, Key{Sample: i}); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill()
	if n := testing.AllocsPerRun(100, fill); n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
}

func FuzzPair(f *testing.F) {
	f.Add([]byte{5, 6}, []byte{7}, uint8(9), uint64(1))
	p := map[uint8]*Pair{}
	f.Fuzz(func(t *testing.T, first, second []byte, most uint8, seed uint64) {
		most = max(5, most)
		if p[most] == nil {
			p[most] = mustPair(t, PairConfig{Task: SOP, MaxTokens: int(most), MLM: &usual}, tinyVocab)
		}
		s := Sample{}
		for _, x := range first {
			s.Tokens = append(s.Tokens, uint32(x))
		}
		for _, x := range second {
			s.Next = append(s.Next, uint32(x))
		}
		var b Batch
		b.Reset()
		if err := p[most].Append(&b, s, Key{Seed: seed}); err != nil {
			if b.Tokens()+b.Samples()+len(b.PairLabels)+len(b.Labels) > 0 {
				t.Fatalf("%v left %+v", err, b)
			}
			return
		}
		if n := b.Tokens(); n > int(most) || n < min(int(most), len(first)+len(second)+3) || len(b.Offsets) != 2 || int(b.Offsets[1]) != n {
			t.Fatalf("%d tokens of at most %d, offsets %v", n, most, b.Offsets)
		}
	})
}
