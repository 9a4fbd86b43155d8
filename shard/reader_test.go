package shard

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestEveryByteMatters changes each byte of a shard and of a sample index in turn:
// reading must give an error that names the file.
func TestEveryByteMatters(t *testing.T) {
	report, c := corpusOf(t, someText(4), nil)
	path := filepath.Join(report.Dir, shardName(0, 0))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		_, err := parseShard(path, bad, c.index, 0, false)
		wantError(t, err, shardName(0, 0))
	}
	for n := range good {
		_, err := parseShard(path, good[:n], c.index, 0, false)
		wantError(t, err, shardName(0, 0))
	}
	cfg := SampleConfig{Unit: Window, MaxTokens: 3}
	s := samplesOf(t, c, cfg)
	good = bytes.Clone(s.data)
	digest := cfg.digest(c.Digest())
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if (&Samples{corpus: c, data: bad}).parse(digest) == nil {
			t.Fatalf("byte %d of the sample index may change", i)
		}
	}
}

// TestLyingShard makes shards whose checksum is right and whose content is not.
func TestLyingShard(t *testing.T) {
	report, c := corpusOf(t, someText(4), nil)
	good, err := os.ReadFile(filepath.Join(report.Dir, shardName(0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	h, err := decodeHeader(good)
	if err != nil {
		t.Fatal(err)
	}
	l := h.layout()
	for want, lie := range map[string]func([]byte){
		"version 7":             func(b []byte) { le.PutUint32(b[8:], 7) },
		"no shard file":         func(b []byte) { copy(b, "PK") },
		"bytes a token":         func(b []byte) { le.PutUint32(b[12:], 4) },
		"too many":              func(b []byte) { le.PutUint64(b[16:], 1<<60) },
		"impossible":            func(b []byte) { le.PutUint64(b[32:], 1<<20) },
		"not the file":          func(b []byte) { le.PutUint32(b[40:], 1) },
		"has nothing":           func(b []byte) { le.PutUint32(b[52:], 1) },
		"sentence 0 begins":     func(b []byte) { b[l.sentences] = 1 },
		"sentence 1 reaches":    func(b []byte) { le.PutUint32(b[l.sentences+8:], 0) },
		"last sentence ends":    func(b []byte) { le.PutUint32(b[l.sentences+4*int64(h.sentences):], 1<<30) },
		"document 0 reaches":    func(b []byte) { le.PutUint32(b[l.documents+4:], 0) },
		"from source 9 of 1":    func(b []byte) { b[l.sources] = 9 },
		"beyond the vocabulary": func(b []byte) { le.PutUint16(b[l.tokens+2:], 30000) },
	} {
		bad := bytes.Clone(good)
		lie(bad)
		c.index.Shards[0].CRC32C = fmt.Sprintf("%08x", crc32.Checksum(bad, castagnoli))
		s, err := parseShard("x.bin", bad, c.index, 0, false)
		if err == nil {
			_, err = s.appendTokens(nil, 0, int64(s.h.tokens))
		}
		wantError(t, err, "x.bin", want)
	}
}

// mutate changes data as at and with say.
func mutate(data []byte, at uint32, with []byte, cut bool) []byte {
	bad := bytes.Clone(data)
	from := int(at) % len(bad)
	if cut {
		return bad[:from]
	}
	copy(bad[from:], with)
	return bad
}

// FuzzShard reads mutated shards, with the checksum (any change is an error) and
// without it (nothing panics, and no token is beyond the vocabulary).
func FuzzShard(f *testing.F) {
	report, c := corpusOf(f, someText(6), nil)
	good, err := os.ReadFile(filepath.Join(report.Dir, shardName(0, 0)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(16), []byte{255, 255, 255, 255}, false)
	f.Add(uint32(100), []byte{0, 0}, false)
	f.Add(uint32(len(good)-9), []byte{1}, true)
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		f.Add(r.Uint32(), randomBytes(r, 1+r.IntN(8)), r.IntN(10) == 0)
	}
	f.Fuzz(func(t *testing.T, at uint32, with []byte, cut bool) {
		bad := mutate(good, at, with, cut)
		if _, err := parseShard("x.bin", bad, c.index, 0, false); (err == nil) != bytes.Equal(bad, good) {
			t.Fatalf("with checksum: %v", err)
		}
		s, err := parseShard("x.bin", bad, c.index, 0, true)
		if err != nil {
			return
		}
		for d := range int64(s.h.documents) {
			first, end := s.document(d)
			tokens, err := s.appendTokens(nil, first, end)
			for _, token := range tokens {
				if err == nil && token >= 30000 {
					t.Fatalf("token %d", token)
				}
			}
			s.appendWords(nil, first, end)
			if s.documentAt(first) != d {
				t.Fatalf("token %d is not found in document %d", first, d)
			}
		}
	})
}
