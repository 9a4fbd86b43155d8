package shard

import (
	"bytes"
	"hash/crc32"
	"testing"
)

func FuzzSampleIndex(f *testing.F) {
	_, c := corpusOf(f, someText(6), nil)
	cfg := SampleConfig{Unit: Window, MaxTokens: 3}
	good := bytes.Clone(samplesOf(f, c, cfg).data)
	digest := cfg.digest(c.Digest())
	f.Add(uint32(48), []byte{255, 255, 255, 255, 255, 255, 255, 127})
	f.Add(uint32(len(good)-8), []byte{0, 0})
	f.Add(uint32(sampleHeaderBytes), []byte{255, 255, 255, 255, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, at uint32, with []byte) {
		bad := mutate(good, at, with, false)
		le.PutUint32(bad[12:], crc32.Checksum(bad[sampleCRCFrom:], castagnoli)) // a lie with the right checksum
		s := &Samples{corpus: c, path: "x.idx", data: bad, max: 3}
		if s.parse(digest) != nil {
			return
		}
		var sample Sample
		for i := range s.Len() {
			if err := s.At(i, &sample); err == nil && (len(sample.Tokens) < 1 || len(sample.Tokens) > 3) {
				t.Fatalf("sample %d has %d tokens", i, len(sample.Tokens))
			}
		}
	})
}
