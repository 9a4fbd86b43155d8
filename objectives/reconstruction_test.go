package objectives

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// textVocab is that of a T5: 30 tokens, sentinels from 20 on.
var textVocab = Vocab{Size: 30, CLS: NoToken, SEP: NoToken, Mask: NoToken, Pad: 0, EOS: 1, Sentinels: []uint32{20, 21, 22, 23},
	Special: []uint32{0, 1, 2, 20, 21, 22, 23}}

func mustReconstruct(t testing.TB, c ReconstructionConfig) *Reconstruction {
	t.Helper()
	r, err := NewReconstruction(c, textVocab)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func appendTo(t testing.TB, o Objective, b *Batch, s Sample, k Key) {
	t.Helper()
	if err := o.Append(b, s, k); err != nil {
		t.Fatal(err)
	}
}

func TestNewReconstructionRefuses(t *testing.T) {
	usual := ReconstructionConfig{Probability: 0.2, Perturbation: Deleted, WordOrder: Shuffled}
	with := func(change func(*ReconstructionConfig)) ReconstructionConfig {
		c := usual
		change(&c)
		return c
	}
	noEOS, noSentinel := textVocab, textVocab
	noEOS.EOS, noSentinel.Sentinels = NoToken, nil
	for _, c := range []struct {
		config ReconstructionConfig
		vocab  Vocab
		want   string
	}{
		{with(func(c *ReconstructionConfig) { c.Probability = 1 }), textVocab, "leave nothing"},
		{with(func(c *ReconstructionConfig) { c.Probability = math.NaN() }), textVocab, "perturbation_probability"},
		{with(func(c *ReconstructionConfig) { c.Perturbation = "swap" }), textVocab, `got "swap"`},
		{with(func(c *ReconstructionConfig) { c.WordOrder = "reverse" }), textVocab, `got "reverse"`},
		{with(func(c *ReconstructionConfig) { c.Perturbation = Masked }), noSentinel, "no mask token and no sentinel"},
		{usual, noEOS, "no EOS token"},
		{usual, Vocab{EOS: 1}, "size 0"},
	} {
		if _, err := NewReconstruction(c.config, c.vocab); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want %q", c.config, err, c.want)
		}
	}
	if _, err := NewReconstruction(usual, noSentinel); err != nil {
		t.Error(err) // deletes only
	}
}

// threeWords are words of one, two and three tokens.
var threeWords = Sample{ID: 7, Tokens: []uint32{5, 6, 7, 8, 9, 10}, WordStart: []bool{false, true, false, true, false, false}}

func TestReconstructionAppend(t *testing.T) {
	same := mustReconstruct(t, ReconstructionConfig{Perturbation: Deleted, WordOrder: Kept, DecoderStart: 3})
	var b Batch
	for range 2 { // the second time without a Reset
		appendTo(t, same, &b, threeWords, Key{})
	}
	if want := []int64{5, 6, 7, 8, 9, 10, 1}; !slices.Equal(b.IDs[7:], want) || !slices.Equal(b.Targets[7:], want) {
		t.Errorf("read %v, targets %v; want %v for both", b.IDs[7:], b.Targets[7:], want)
	}
	if want := []int64{3, 5, 6, 7, 8, 9, 10}; !slices.Equal(b.DecoderIDs[7:], want) || !slices.Equal(b.DecoderIDs[:7], want) {
		t.Errorf("decoder ids %v, want twice %v", b.DecoderIDs, want)
	}
	if want := []int32{0, 7, 14}; !slices.Equal(b.Offsets, want) || !slices.Equal(b.DecoderOffsets, want) {
		t.Errorf("offsets %v and %v, want %v", b.Offsets, b.DecoderOffsets, want)
	}
	if !slices.Equal(b.Positions[7:], []int64{0, 1, 2, 3, 4, 5, 6}) || len(b.Labels) > 0 || !slices.Equal(b.SampleIDs, []uint64{7, 7}) {
		t.Errorf("positions %v, labels %v, samples %v", b.Positions, b.Labels, b.SampleIDs)
	}

	masks := mustReconstruct(t, ReconstructionConfig{Probability: 0.99, Perturbation: Masked, WordOrder: Kept})
	b.Reset()
	appendTo(t, masks, &b, threeWords, Key{})
	allowed := [][]int64{{5, 20, 20, 1}, {20, 6, 7, 20, 1}, {20, 20, 8, 9, 10, 1}} // one word is spared
	if !slices.ContainsFunc(allowed, func(x []int64) bool { return slices.Equal(x, b.IDs) }) {
		t.Errorf("masked %v, want one of %v", b.IDs, allowed)
	}
}

// Words whose tokens depend on their place are encoded again: with their tokens, in the new order, masks as words of their own, and cut to what the model reads.
func TestReconstructionEncodesAgain(t *testing.T) {
	var given [][]uint32
	answer := []uint32{9, 8, 7, 6, 5}
	config := ReconstructionConfig{Probability: 0.99, Perturbation: Masked, WordOrder: Kept, MaxTokens: 4, Encode: func(words [][]uint32) ([]uint32, error) {
		given = words
		if answer == nil {
			return nil, errors.New("no answer")
		}
		return answer, nil
	}}
	r := mustReconstruct(t, config)
	var b Batch
	appendTo(t, r, &b, threeWords, Key{})
	if want := []int64{9, 8, 7, 1}; !slices.Equal(b.IDs, want) || !slices.Equal(b.Targets, []int64{5, 6, 7, 8, 9, 10, 1}) {
		t.Errorf("read %v, targets %v; want %v", b.IDs, b.Targets, want)
	}
	masked := 0
	for i, word := range given {
		if slices.Equal(word, []uint32{20}) {
			masked++
		} else if want := [][]uint32{{5}, {6, 7}, {8, 9, 10}}[i]; !slices.Equal(word, want) {
			t.Errorf("word %d is %v, want %v", i, word, want)
		}
	}
	if len(given) != 3 || masked != 2 {
		t.Errorf("words %v", given)
	}
	b.Reset()
	for _, answer = range [][]uint32{nil, {99}} {
		if err := r.Append(&b, threeWords, Key{}); err == nil || !strings.Contains(err.Error(), "sample 7") || b.Tokens() > 0 {
			t.Errorf("error %v, %d tokens", err, b.Tokens())
		}
	}
}

func TestReconstructionAppendRefuses(t *testing.T) {
	r := mustReconstruct(t, ReconstructionConfig{Perturbation: Deleted, WordOrder: Kept})
	var b Batch
	b.Reset()
	for want, s := range map[string]Sample{
		"is empty":          {},
		"1 word starts":     {Tokens: []uint32{5, 6}, WordStart: []bool{true}},
		"another tokenizer": {Tokens: []uint32{30}, WordStart: []bool{true}},
	} {
		if err := r.Append(&b, s, Key{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if b.Tokens() > 0 || b.Samples() > 0 || len(b.Targets) > 0 {
		t.Errorf("a refused sample left %+v", b)
	}
	if r.Keep([]uint32{2, 20}) || !r.Keep([]uint32{2, 9}) {
		t.Error("Keep goes by other tokens than the special ones")
	}
}

// outcomes counts what the model reads of a sample of n words of a token each, over 1e5 keys.
func outcomes(t *testing.T, r *Reconstruction, n int) map[string]float64 {
	t.Helper()
	s := Sample{Tokens: make([]uint32, n), WordStart: make([]bool, n)}
	for i := range s.Tokens {
		s.Tokens[i], s.WordStart[i] = uint32(5+i), true
	}
	counts := map[string]float64{}
	var b Batch
	for i := range uint64(manySamples) {
		b.Reset()
		appendTo(t, r, &b, s, Key{Seed: 42, Epoch: i % 3, Sample: i})
		var text strings.Builder
		for _, id := range b.IDs[:len(b.IDs)-1] {
			fmt.Fprintf(&text, "%c", 'a'+id-5)
		}
		counts[text.String()]++
	}
	return counts
}

// Every set of deleted words and every order of the others is as likely as the definition says, over 1e5 samples.
func TestReconstructionChances(t *testing.T) {
	const n, p = 4, 0.2
	factorial := []float64{1, 1, 2, 6, 24}
	shuffled := outcomes(t, mustReconstruct(t, ReconstructionConfig{Probability: p, Perturbation: Deleted, WordOrder: Shuffled}), n)
	kept := outcomes(t, mustReconstruct(t, ReconstructionConfig{Probability: p, Perturbation: Deleted, WordOrder: Kept}), n)
	chance := func(left int) float64 { // of a set of words to be what is left
		c := math.Pow(1-p, float64(left)) * math.Pow(p, float64(n-left))
		if left == 1 {
			c += math.Pow(p, n) / n // all were selected, and this one was spared
		}
		return c
	}
	check := func(what string, counts map[string]float64, orders func(left int) float64, cells int) {
		var observed, expected []float64
		for text, count := range counts {
			observed = append(observed, count)
			expected = append(expected, manySamples*chance(len(text))/orders(len(text)))
		}
		if len(observed) != cells {
			t.Fatalf("%s: %d outcomes, want %d", what, len(observed), cells)
		}
		checkChiSquare(t, what, observed, expected)
	}
	check("shuffled", shuffled, func(left int) float64 { return factorial[left] }, 24+4*6+6*2+4)
	check("kept", kept, func(int) float64 { return 1 }, 15)
	for text := range kept {
		if !slices.IsSorted([]byte(text)) {
			t.Errorf("kept in order %s", text)
		}
	}
}

// A window's order moves a word by at most three places, and each word about as often either way.
func TestWindowOrder(t *testing.T) {
	const n = 9
	ahead, back := 0.0, 0.0
	furthest := 0
	for text, count := range outcomes(t, mustReconstruct(t, ReconstructionConfig{Perturbation: Deleted, WordOrder: Windowed}), n) {
		if len(text) != n {
			t.Fatalf("%d words of %d", len(text), n)
		}
		for i, c := range []byte(text) {
			move := int(c-'a') - i
			furthest = max(furthest, move, -move)
			if move > 0 {
				ahead += count
			} else if move < 0 {
				back += count
			}
		}
	}
	if furthest != windowReach {
		t.Errorf("words move by up to %d places, want %d", furthest, windowReach)
	}
	if share := ahead / (ahead + back); share < 0.45 || share > 0.55 {
		t.Errorf("%.2f of the moves are ahead", share)
	}
}

// A key's draws do not depend on what else is in the batch.
func TestSequencesAreKeyed(t *testing.T) {
	for name, o := range map[string]Objective{
		"reconstruction":  mustReconstruct(t, ReconstructionConfig{Probability: 0.2, Perturbation: Deleted, WordOrder: Shuffled}),
		"span_corruption": mustSpans(t, SpanConfig{Density: 0.5, MeanLength: 2}),
	} {
		var together, alone Batch
		together.Reset()
		for i := range uint64(5) {
			appendTo(t, o, &together, threeWords, Key{Sample: i})
		}
		alone.Reset()
		appendTo(t, o, &alone, threeWords, Key{Sample: 3})
		if got := together.IDs[together.Offsets[3]:together.Offsets[4]]; !slices.Equal(got, alone.IDs) {
			t.Errorf("%s: %v in a batch, %v alone", name, got, alone.IDs)
		}
		if got := together.Targets[together.DecoderOffsets[3]:together.DecoderOffsets[4]]; !slices.Equal(got, alone.Targets) {
			t.Errorf("%s: targets %v in a batch, %v alone", name, got, alone.Targets)
		}
		if o.Pairs() || len(o.Terms()) != 1 || o.Terms()[0] != name {
			t.Errorf("%s: terms %v", name, o.Terms())
		}
	}
}
