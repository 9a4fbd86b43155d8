package shard

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// testSet writes a set of some of n documents and returns its path.
func testSet(t testing.TB, n int64, in ...int64) (path string, digest [sha256.Size]byte) {
	t.Helper()
	b := newSetBuilder(n)
	for _, d := range in {
		b.add(d, 10)
	}
	path, digest = filepath.Join(t.TempDir(), "a.set"), sha256.Sum256([]byte("a"))
	if err := b.write(path, digest); err != nil {
		t.Fatal(err)
	}
	return path, digest
}

func TestDocumentSet(t *testing.T) {
	for _, n := range []int64{1, 63, 64, 65, 1000} {
		in := []int64{0}
		if n > 1 {
			in = append(in, n-1)
		}
		path, digest := testSet(t, n, in...)
		s, err := openDocumentSet(path, digest, n)
		if err != nil {
			t.Fatal(err)
		}
		if got := members(s); !reflect.DeepEqual(got, in) || s.Len() != int64(len(in)) || s.Tokens() != 10*s.Len() {
			t.Errorf("%d documents: %v, want %v", n, got, in)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDocumentSetRefuses(t *testing.T) {
	path, digest := testSet(t, 70, 3, 69)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(data []byte) error {
		t.Helper()
		other := filepath.Join(t.TempDir(), "b.set")
		if err := os.WriteFile(other, data, 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := openDocumentSet(other, digest, 70)
		if err == nil {
			s.Close()
		}
		return err
	}
	for at := range whole {
		for _, bit := range []byte{1, 0x80} {
			damaged := append([]byte{}, whole...)
			damaged[at] ^= bit
			if try(damaged) == nil {
				t.Errorf("byte %d: a changed bit goes unseen", at)
			}
		}
		if try(whole[:at]) == nil {
			t.Errorf("cut at %d: it goes unseen", at)
		}
	}
	if _, err := openDocumentSet(path, digest, 69); err == nil {
		t.Error("a set of another number of documents is taken")
	}
	wantError(t, func() error { _, err := openDocumentSet(path, sha256.Sum256(nil), 70); return err }(), "other documents")
	old := append([]byte{}, whole...)
	le.PutUint32(old[8:], setVersion+1)
	wantError(t, try(old), "version 2", "reads version 1")
}

func FuzzDocumentSet(f *testing.F) {
	path, digest := testSet(f, 70, 3, 69)
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:40])
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "a.set")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := openDocumentSet(path, digest, 70)
		if err != nil {
			return
		}
		defer s.Close()
		if int64(len(members(s))) != s.Len() || s.Len() > 70 {
			t.Errorf("%d members, counted %d", len(members(s)), s.Len())
		}
	})
}

// Samples of every unit are those of a corpus that has the documents that count and no others.
func TestSamplesHonourDocuments(t *testing.T) {
	text := someText(60)
	var whole []string
	for _, shardBytes := range []int64{0, 150} {
		_, c := corpusOf(t, text, func(cfg *PrepareConfig) { cfg.ShardBytes = shardBytes })
		cleaned := clean(t, []*Corpus{c}, nil, CleanConfig{HeldOutPercent: 35})
		for _, cfg := range []SampleConfig{{Unit: Window, MaxTokens: 7}, {Unit: Sentence, MaxTokens: 5}, {Unit: Document, MaxTokens: 30, Long: LongTruncate}, {Unit: Pair, MaxTokens: 9}} {
			all := samplesOf(t, c, cfg)
			cfg.Documents = cleaned.Training[0]
			training := samplesOf(t, c, cfg)
			cfg.Documents = cleaned.HeldOut[0]
			heldOut := samplesOf(t, c, cfg)
			if all.Digest() == training.Digest() || training.Digest() == heldOut.Digest() {
				t.Error("other documents, the same digest")
			}
			next := [2]int64{}
			var want, got Sample
			for i := range all.Len() {
				origin, err := all.Origin(i)
				if err != nil {
					t.Fatal(err)
				}
				side, samples := 0, training
				if cleaned.HeldOut[0].Has(origin.Document) {
					side, samples = 1, heldOut
				}
				if err := all.At(i, &want); err != nil {
					t.Fatal(err)
				}
				if err := samples.At(next[side], &got); err != nil {
					t.Fatal(err)
				}
				next[side]++
				want.ID = got.ID
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("%+v: sample %d is %v, want %v", cfg, i, got, want)
				}
			}
			if next[0] != training.Len() || next[1] != heldOut.Len() || next[0] == 0 || next[1] == 0 {
				t.Errorf("%s: %d and %d samples, want %v", cfg.Unit, training.Len(), heldOut.Len(), next)
			}
			whole = append(whole, training.Digest())
		}
	}
	if half := len(whole) / 2; !reflect.DeepEqual(whole[:half], whole[half:]) {
		t.Error("the digest depends on the size of shards")
	}
}

func TestSamplesOfAnotherSet(t *testing.T) {
	_, c := corpusOf(t, someText(5), nil)
	path, digest := testSet(t, 70)
	s, err := openDocumentSet(path, digest, 70)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = c.Samples(context.Background(), SampleConfig{Unit: Window, MaxTokens: 3, Documents: s})
	wantError(t, err, "set of 70 documents")
	_, err = c.Samples(context.Background(), SampleConfig{Unit: Window, MaxTokens: 3, DocumentsDigest: "x"})
	wantError(t, err, "only names")
	// A set without a document says so.
	n := c.Counts().Documents
	empty, digest := testSet(t, n)
	none, err := openDocumentSet(empty, digest, n)
	if err != nil {
		t.Fatal(err)
	}
	defer none.Close()
	_, err = c.Samples(context.Background(), SampleConfig{Unit: Pair, MaxTokens: 3, Documents: none})
	wantError(t, err, "no document is left of", "duplicates")
}
