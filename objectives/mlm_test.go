package objectives

import (
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
)

var (
	tinyVocab = Vocab{Size: 30, CLS: 2, SEP: 3, Mask: 4, Pad: 0, Special: []uint32{0, 1, 2, 3, 4, 17}}
	usual     = MLMConfig{Probability: 0.15, MaskReplaceProb: 0.8, RandomReplaceProb: 0.1}
)

const unknown = 1 // a special token of tinyVocab that occurs inside texts

func mustMLM(t testing.TB, c MLMConfig, v Vocab) *MLM {
	t.Helper()
	m, err := NewMLM(c, v)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mustAppend(t testing.TB, m *MLM, b *Batch, s Sample, k Key) {
	t.Helper()
	if err := m.Append(b, s, k); err != nil {
		t.Fatal(err)
	}
}

func TestNewMLMRefuses(t *testing.T) {
	without := func(change func(*Vocab)) Vocab {
		v := tinyVocab
		change(&v)
		return v
	}
	for _, c := range []struct {
		name   string
		config MLMConfig
		vocab  Vocab
		want   string
	}{
		{"negative", MLMConfig{Probability: -0.1}, tinyVocab, "mlm_probability"},
		{"above one", MLMConfig{Probability: 1.1}, tinyVocab, "mlm_probability"},
		{"not a number", MLMConfig{Probability: math.NaN()}, tinyVocab, "mlm_probability"},
		{"mask share", MLMConfig{MaskReplaceProb: 2}, tinyVocab, "mask_replace_prob"},
		{"random share", MLMConfig{RandomReplaceProb: -1}, tinyVocab, "random_replace_prob"},
		{"sum", MLMConfig{MaskReplaceProb: 0.8, RandomReplaceProb: 0.3}, tinyVocab, "sum"},
		{"offset", MLMConfig{PositionOffset: -1}, tinyVocab, "offset"},
		{"no mask", usual, without(func(v *Vocab) { v.Mask = NoToken }), "no mask token"},
		{"no cls", usual, without(func(v *Vocab) { v.CLS = NoToken }), "no CLS"},
		{"no sep", usual, without(func(v *Vocab) { v.SEP = NoToken }), "no SEP"},
		{"empty", usual, without(func(v *Vocab) { v.Size = 0 }), "size 0"},
		{"mask beyond", usual, without(func(v *Vocab) { v.Mask = 30 }), "30 lies beyond"},
		{"special beyond", usual, without(func(v *Vocab) { v.Special = []uint32{99} }), "99 lies beyond"},
		{"special only", usual, Vocab{Size: 4, CLS: 0, SEP: 1, Mask: 2, Pad: 3}, "all 4 tokens are special"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := NewMLM(c.config, c.vocab); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	withoutPad := without(func(v *Vocab) { v.Pad = NoToken })
	mustMLM(t, MLMConfig{MaskReplaceProb: 0.9, RandomReplaceProb: 0.1}, withoutPad)
}

func TestAppendRefuses(t *testing.T) {
	words := usual
	words.WholeWordMask = true
	for _, c := range []struct {
		name   string
		config MLMConfig
		sample Sample
		want   string
	}{
		{"empty", usual, Sample{ID: 7}, "sample 7: no maskable token"},
		{"special only", usual, Sample{Tokens: []uint32{unknown, 17}}, "no maskable token"},
		{"other tokenizer", usual, Sample{Tokens: []uint32{9, 30}}, "token 1 has id 30"},
		{"huge id", usual, Sample{Tokens: []uint32{math.MaxUint32}}, "token 0 has id 4294967295"},
		{"no word starts", words, Sample{Tokens: []uint32{9, 9}}, "0 word starts for 2 tokens"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := mustMLM(t, c.config, tinyVocab)
			var b Batch
			good := Sample{ID: 1, Tokens: []uint32{8, 9}, WordStart: []bool{true, true}}
			mustAppend(t, m, &b, good, Key{})
			err := m.Append(&b, c.sample, Key{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
			if b.Samples() != 1 || b.Tokens() != 4 || len(b.Offsets) != 2 {
				t.Errorf("the failed sample changed the batch: %+v", b)
			}
			if strings.Contains(c.want, "maskable") != errors.Is(err, ErrNoMaskable) {
				t.Errorf("ErrNoMaskable does not tell this error: %v", err)
			}
		})
	}
}

func TestKeep(t *testing.T) {
	m := mustMLM(t, usual, tinyVocab)
	for _, c := range []struct {
		tokens []uint32
		want   bool
	}{
		{nil, false}, {[]uint32{unknown}, false}, {[]uint32{4, 17, 2}, false}, {[]uint32{99}, false},
		{[]uint32{5}, true}, {[]uint32{unknown, 29}, true},
	} {
		if got := m.Keep(c.tokens); got != c.want {
			t.Errorf("Keep(%v) = %v", c.tokens, got)
		}
	}
}

func TestFrame(t *testing.T) {
	config := usual
	config.MaskReplaceProb, config.RandomReplaceProb = 0, 0 // selected tokens stay as they are
	config.PositionOffset = 2
	m := mustMLM(t, config, tinyVocab)
	var b Batch
	mustAppend(t, m, &b, Sample{ID: 11, Tokens: []uint32{8, unknown, 9}}, Key{})
	mustAppend(t, m, &b, Sample{ID: 12, Tokens: []uint32{20}}, Key{})
	for _, c := range []struct {
		name string
		ok   bool
	}{
		{"ids", slices.Equal(b.IDs, []int64{2, 8, 1, 9, 3, 2, 20, 3})},
		{"positions", slices.Equal(b.Positions, []int64{2, 3, 4, 5, 6, 2, 3, 4})},
		{"types", slices.Equal(b.TypeIDs, make([]int64, 8))},
		{"offsets", slices.Equal(b.Offsets, []int32{0, 5, 8})},
		{"sample ids", slices.Equal(b.SampleIDs, []uint64{11, 12})},
		{"special tokens", b.Tokens() == 4+2*b.Samples()},
	} {
		if !c.ok {
			t.Errorf("%s: %+v", c.name, b)
		}
	}
	b.Reset()
	if b.Tokens() != 0 || b.Samples() != 0 || !slices.Equal(b.Offsets, []int32{0}) || len(b.Labels) != 0 {
		t.Errorf("after Reset: %+v", b)
	}
}

// The draws of a key are part of what makes a run reproducible: a change here breaks every resume.
func TestDrawsStayOverVersions(t *testing.T) {
	m := mustMLM(t, MLMConfig{Probability: 0.4, MaskReplaceProb: 0.5, RandomReplaceProb: 0.4}, tinyVocab)
	var b Batch
	tokens := []uint32{5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	mustAppend(t, m, &b, Sample{Tokens: tokens}, Key{Seed: 42, Epoch: 1, Sample: 5})
	wantIDs := []int64{2, 4, 6, 7, 8, 9, 10, 11, 28, 13, 14, 15, 16, 3}
	wantLabelled := []int64{1, 5, 8}
	if !slices.Equal(b.IDs, wantIDs) || !slices.Equal(b.Labelled, wantLabelled) {
		t.Errorf("ids %v, labelled %v; want %v and %v", b.IDs, b.Labelled, wantIDs, wantLabelled)
	}
}

func TestProbabilityOneAndZero(t *testing.T) {
	tokens := []uint32{5, unknown, 7, 8, 17, 9}
	maskable := []int64{1, 3, 4, 6}
	var b Batch
	for sample := range uint64(200) {
		b.Reset()
		mustAppend(t, mustMLM(t, MLMConfig{Probability: 1, MaskReplaceProb: 1}, tinyVocab), &b,
			Sample{Tokens: tokens}, Key{Sample: sample})
		if !slices.Equal(b.Labelled, maskable) || !slices.Equal(b.IDs, []int64{2, 4, 1, 4, 4, 17, 4, 3}) {
			t.Fatalf("probability 1: %+v", b)
		}
		b.Reset()
		mustAppend(t, mustMLM(t, MLMConfig{RandomReplaceProb: 1}, tinyVocab), &b, Sample{Tokens: tokens}, Key{Sample: sample})
		if len(b.Labelled) != 1 || !slices.Contains(maskable, b.Labelled[0]) {
			t.Fatalf("probability 0: %+v", b)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	m := mustMLM(t, usual, tinyVocab)
	s := Sample{Tokens: []uint32{5, 6, 7, 8, 9, 10, 11}}
	var want Batch
	mustAppend(t, m, &want, s, Key{Seed: 1})
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 200 {
				var b Batch
				if err := m.Append(&b, s, Key{Seed: 1}); err != nil || !slices.Equal(b.IDs, want.IDs) {
					t.Errorf("error %v, ids %v, want %v", err, b.IDs, want.IDs)
					return
				}
			}
		})
	}
	wait.Wait()
}

func benchmarkSample(n int) Sample {
	s := Sample{Tokens: make([]uint32, n), WordStart: make([]bool, n)}
	for i := range s.Tokens {
		s.Tokens[i] = uint32(1000 + i*37%20000)
		s.WordStart[i] = i%3 != 1
	}
	return s
}

var bertVocab = Vocab{Size: 30522, CLS: 101, SEP: 102, Mask: 103, Pad: 0, Special: []uint32{100}}

func TestAppendMakesNoGarbage(t *testing.T) {
	for _, whole := range []bool{false, true} {
		config := usual
		config.WholeWordMask = whole
		m, s := mustMLM(t, config, bertVocab), benchmarkSample(128)
		var b Batch
		fill := func() {
			b.Reset()
			for i := range uint64(8) {
				mustAppend(t, m, &b, s, Key{Seed: 42, Sample: i})
			}
		}
		fill()
		if n := testing.AllocsPerRun(100, fill); n != 0 {
			t.Errorf("whole words %v: %v allocations a batch", whole, n)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	m, s := mustMLM(b, usual, bertVocab), benchmarkSample(126)
	var batch Batch
	b.ReportAllocs()
	b.SetBytes(128) // so MB/s reads as million tokens a second
	for i := range b.N {
		if i%8 == 0 {
			batch.Reset()
		}
		mustAppend(b, m, &batch, s, Key{Seed: 42, Sample: uint64(i)})
	}
}
