package hf

import (
	"os"
	"testing"
)

func TestParseSentencePiece(t *testing.T) {
	data, err := os.ReadFile("testdata/tokenizers/t5/" + sentencePieceFile)
	if err != nil {
		t.Fatal(err)
	}
	sp, err := parseSentencePiece(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(sp.pieces) != 60 || sp.modelType != modelUnigram || len(sp.charsmap) == 0 {
		t.Errorf("%d pieces, model type %d, a charsmap of %d bytes", len(sp.pieces), sp.modelType, len(sp.charsmap))
	}
	if p := sp.pieces[2]; p.text != "<unk>" || p.kind != pieceUnknown {
		t.Errorf("the third piece is %+v", p)
	}
	for n := range len(data) { // every cut is an error or a shorter model, none a panic
		if cut, err := parseSentencePiece(data[:n]); err == nil && len(cut.pieces) > len(sp.pieces) {
			t.Fatalf("cut to %d bytes it has %d pieces", n, len(cut.pieces))
		}
	}
}

func FuzzParseSentencePiece(f *testing.F) {
	data, err := os.ReadFile("testdata/tokenizers/t5/" + sentencePieceFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("\x0a\x08\x0a\x01a\x15\x00\x00\x80\x3f\x12\x02\x18\x02"))
	f.Fuzz(func(t *testing.T, data []byte) {
		sp, err := parseSentencePiece(data)
		if err != nil {
			return
		}
		vocab, ids, _ := t5Vocab(sp.pieces, 3)
		if len(vocab) != len(sp.pieces)+3 || len(ids) > len(vocab) {
			t.Fatalf("%d pieces became %d entries and %d ids", len(sp.pieces), len(vocab), len(ids))
		}
		if _, err := marshal(vocab); err != nil {
			t.Fatal(err)
		}
	})
}
