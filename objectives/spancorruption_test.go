package objectives

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

func mustSpans(t testing.TB, c SpanConfig) *SpanCorruption {
	t.Helper()
	o, err := NewSpanCorruption(c, textVocab)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestNewSpanCorruptionRefuses(t *testing.T) {
	noEOS, oneSentinel := textVocab, textVocab
	noEOS.EOS, oneSentinel.Sentinels = NoToken, []uint32{20}
	for _, c := range []struct {
		config SpanConfig
		vocab  Vocab
		want   string
	}{
		{SpanConfig{Density: 0, MeanLength: 3}, textVocab, "noise_density"},
		{SpanConfig{Density: 1, MeanLength: 3}, textVocab, "noise_density"},
		{SpanConfig{Density: math.NaN(), MeanLength: 3}, textVocab, "noise_density"},
		{SpanConfig{Density: 0.15, MeanLength: 0.5}, textVocab, "mean_noise_span_length"},
		{SpanConfig{Density: 0.15, MeanLength: math.Inf(1)}, textVocab, "mean_noise_span_length"},
		{SpanConfig{Density: 0.15, MeanLength: 3}, noEOS, "no EOS token"},
		{SpanConfig{Density: 0.15, MeanLength: 3}, oneSentinel, "1 sentinel tokens"},
	} {
		if _, err := NewSpanCorruption(c.config, c.vocab); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want %q", c.config, err, c.want)
		}
	}
}

// spanSample is n tokens from 3 on, all different modulo 17.
func spanSample(n int) Sample {
	s := Sample{ID: 4, Tokens: make([]uint32, n)}
	for i := range s.Tokens {
		s.Tokens[i] = uint32(3 + i%17)
	}
	return s
}

// fill puts the spans of the targets where their sentinels stand in what was read.
func fill(read, targets []int64) []int64 {
	var text []int64
	for _, id := range read[:len(read)-1] {
		if id < 20 {
			text = append(text, id)
			continue
		}
		for at := slices.Index(targets, id) + 1; targets[at] < 20; at++ {
			text = append(text, targets[at])
		}
	}
	return text
}

// Of any length, what was taken out and what was left are the whole text; counts are those of T5's program, sentinels ascend, the last one ends the targets, and
// the lengths are those that TextTokens reckons with.
func TestSpanCorruptionIsWhole(t *testing.T) {
	o := mustSpans(t, SpanConfig{Density: 0.15, MeanLength: 3, DecoderStart: 2})
	var b Batch
	for n := 2; n < 60; n++ {
		b.Reset()
		s := spanSample(n)
		appendTo(t, o, &b, s, Key{Sample: uint64(n)})
		noise := min(max(int(math.RoundToEven(0.15*float64(n))), 1), n-1)
		spans := min(max(int(math.RoundToEven(float64(noise)/3)), 1), 3)
		if len(b.IDs) != n-noise+spans+1 || len(b.Targets) != noise+spans+2 {
			t.Errorf("%d tokens: %d read, %d written; want %d and %d", n, len(b.IDs), len(b.Targets), n-noise+spans+1, noise+spans+2)
		}
		if !slices.Equal(b.DecoderIDs, append([]int64{2}, b.Targets[:len(b.Targets)-1]...)) {
			t.Errorf("%d tokens: decoder ids %v, targets %v", n, b.DecoderIDs, b.Targets)
		}
		if last := b.Targets[len(b.Targets)-2:]; last[0] != int64(20+spans) || last[1] != 1 || b.IDs[len(b.IDs)-1] != 1 {
			t.Errorf("%d tokens: read %v, targets %v", n, b.IDs, b.Targets)
		}
		want := int64(20)
		for i, id := range b.IDs {
			if id < 20 {
				continue
			}
			if id != want || i == 0 || b.IDs[i-1] >= 20 {
				t.Errorf("%d tokens: sentinels in %v", n, b.IDs)
			}
			want++
		}
		whole := make([]int64, n)
		for i, id := range s.Tokens {
			whole[i] = int64(id)
		}
		if got := fill(b.IDs, b.Targets); !slices.Equal(got, whole) {
			t.Errorf("%d tokens: put together again they are %v", n, got)
		}
	}
	for _, most := range []int{4, 10, 40, 512} {
		n := o.TextTokens(most)
		b.Reset()
		appendTo(t, o, &b, spanSample(n), Key{})
		if len(b.IDs) > most || len(b.Targets) > most {
			t.Errorf("at most %d: %d tokens make %d and %d", most, n, len(b.IDs), len(b.Targets))
		}
		b.Reset()
		appendTo(t, o, &b, spanSample(n+1), Key{})
		if len(b.IDs) <= most && len(b.Targets) <= most {
			t.Errorf("at most %d: %d tokens would fit too", most, n+1)
		}
	}
	if o.Keep([]uint32{5}) || !o.Keep([]uint32{5, 6}) || o.Keep([]uint32{20, 20}) {
		t.Error("Keep wants two tokens, one of them not special")
	}
}

func TestSpanCorruptionAppendRefuses(t *testing.T) {
	o := mustSpans(t, SpanConfig{Density: 0.15, MeanLength: 3})
	var b Batch
	b.Reset()
	for want, s := range map[string]Sample{"sample 4: 1 tokens are too few": spanSample(1), "another tokenizer": {Tokens: []uint32{5, 30}}} {
		if err := o.Append(&b, s, Key{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if b.Tokens() > 0 || len(b.Targets) > 0 {
		t.Errorf("a refused sample left %+v", b)
	}
}

// All ways to lay two spans of 5 tokens in all into 10 are equally likely, over 1e5 samples: 4 partitions of the spans times 4 of the text.
func TestSpanChances(t *testing.T) {
	o := mustSpans(t, SpanConfig{Density: 0.5, MeanLength: 2.5})
	counts := map[string]float64{}
	var b Batch
	for i := range uint64(manySamples) {
		b.Reset()
		appendTo(t, o, &b, spanSample(10), Key{Seed: 42, Epoch: i % 3, Sample: i})
		counts[fmt.Sprint(b.IDs)]++
	}
	var observed, expected []float64
	for _, count := range counts {
		observed, expected = append(observed, count), append(expected, manySamples/16.0)
	}
	if len(observed) != 16 {
		t.Fatalf("%d ways, want 16", len(observed))
	}
	checkChiSquare(t, "spans", observed, expected)
}
