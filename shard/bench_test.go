package shard

import (
	"fmt"
	"path/filepath"
	"testing"
)

// wordEncoder is about as little work as an Encoder can do: a token a byte run.
type wordEncoder struct{ testEncoder }

func (wordEncoder) Encode(texts []string) ([]Encoding, error) {
	encodings := make([]Encoding, len(texts))
	for i, text := range texts {
		n := len(text)/4 + 1
		ids, words := make([]uint32, n), make([]bool, n)
		for j := range ids {
			ids[j], words[j] = uint32(j), true
		}
		encodings[i] = Encoding{IDs: ids, WordStart: words}
	}
	return encodings, nil
}

// BenchmarkPrepare is what everything but the tokenizer costs, the sync included.
func BenchmarkPrepare(b *testing.B) {
	dir := b.TempDir()
	text := someText(200_000)
	writeFile(b, filepath.Join(dir, "a.txt"), text)
	b.SetBytes(int64(len(text)))
	for i := 0; b.Loop(); i++ {
		cfg := lineConfig(filepath.Join(dir, fmt.Sprint("cache", i)), filepath.Join(dir, "a.txt"))
		cfg.Encoder = wordEncoder{testEncoder{vocab: 1 << 20}}
		prepare(b, cfg)
	}
}
