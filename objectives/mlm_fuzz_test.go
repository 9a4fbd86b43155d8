package objectives

import (
	"errors"
	"reflect"
	"slices"
	"testing"
)

// FuzzAppend holds what is true of every batch: the text is untouched where it is unlabelled, labels are the originals,
// special tokens stay, and the same key gives the same batch.
func FuzzAppend(f *testing.F) {
	f.Add([]byte("some text"), uint64(1), uint64(2), 0.15, 0.8, 0.1, false)
	f.Add([]byte{0, 1, 2, 3, 4, 17}, uint64(0), uint64(0), 0.0, 0.0, 0.0, true)
	f.Add([]byte{5}, uint64(1<<63), ^uint64(0), 1.0, 0.0, 1.0, true)
	f.Add([]byte{200, 5, 200, 6}, uint64(3), uint64(4), 0.5, 1.0, 0.0, true)
	f.Fuzz(func(t *testing.T, text []byte, seed, sample uint64, p, mask, random float64, whole bool) {
		m, err := NewMLM(MLMConfig{p, mask, random, whole, 0}, tinyVocab)
		if err != nil {
			t.Skip()
		}
		s := Sample{ID: sample}
		for _, c := range text { // the low bits are the token, the highest one begins a word
			s.Tokens = append(s.Tokens, uint32(c&0x7f)%30)
			s.WordStart = append(s.WordStart, c < 0x80)
		}
		original := slices.Clone(s.Tokens)
		var b, again Batch
		for i := range uint64(3) {
			key := Key{seed, i, sample}
			err := m.Append(&b, s, key)
			if errors.Is(err, ErrNoMaskable) != !m.Keep(s.Tokens) || err != nil && m.Keep(s.Tokens) {
				t.Fatalf("error %v, maskable %v", err, m.Keep(s.Tokens))
			}
			if err != nil {
				return
			}
			mustAppend(t, m, &again, s, key)
		}
		if !slices.Equal(s.Tokens, original) {
			t.Fatal("the sample was changed")
		}
		if b.draws, again.draws = (generator{}), (generator{}); !reflect.DeepEqual(b, again) {
			t.Fatal("the same keys gave two batches")
		}
		checkBatch(t, m, &b, original)
	})
}

// checkBatch checks a batch that holds the same tokens in each of its samples.
func checkBatch(t *testing.T, m *MLM, b *Batch, tokens []uint32) {
	t.Helper()
	n := len(b.IDs)
	if len(b.Positions) != n || len(b.TypeIDs) != n || len(b.Offsets) != b.Samples()+1 || len(b.Labels) != len(b.Labelled) ||
		b.Offsets[0] != 0 || int(b.Offsets[b.Samples()]) != n {
		t.Fatalf("lengths: %+v", b)
	}
	next := 0 // of Labelled
	for i := range b.Samples() {
		first, end := int(b.Offsets[i]), int(b.Offsets[i+1])
		if end-first != len(tokens)+2 || b.IDs[first] != 2 || b.IDs[end-1] != 3 {
			t.Fatalf("sample %d: %+v", i, b)
		}
		labels := 0
		for j := first; j < end; j++ {
			inside := j > first && j < end-1
			if next < len(b.Labelled) && b.Labelled[next] == int64(j) {
				if !inside || b.Labels[next] != int64(tokens[j-first-1]) || m.tokens.special[b.Labels[next]] {
					t.Fatalf("token %d is labelled %d: %+v", j, b.Labels[next], b)
				}
				next, labels = next+1, labels+1
			} else if inside && b.IDs[j] != int64(tokens[j-first-1]) {
				t.Fatalf("token %d changed without a label: %+v", j, b)
			}
		}
		if labels == 0 {
			t.Fatalf("sample %d has no label: %+v", i, b)
		}
	}
	if next != len(b.Labelled) {
		t.Fatalf("labels out of order: %+v", b)
	}
}
