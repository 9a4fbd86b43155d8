package shard

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
)

// SamplesDigest is the Digest of the Samples that Prepare and Corpus.Samples would give for these configurations. It
// prepares and writes nothing; texts whose hashes are not known are read. So a run can be told apart from another one's
// continuation before anything is made for it.
func SamplesDigest(prepare PrepareConfig, samples SampleConfig) (string, error) {
	if _, err := samples.ContentDigest(""); err != nil { // before a text is read
		return "", err
	}
	content, err := ContentDigest(prepare)
	if err != nil {
		return "", err
	}
	return samples.ContentDigest(content)
}

// ContentDigest is the Digest of the Samples of a corpus with this ContentDigest.
func (cfg SampleConfig) ContentDigest(corpus string) (string, error) {
	cfg.Dir = "." // check wants one
	if err := cfg.check(nil); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", cfg.digest(corpus)), nil
}

// ContentDigest is the ContentDigest of the Corpus that Prepare would make. It prepares and writes nothing, as SamplesDigest.
func ContentDigest(prepare PrepareConfig) (string, error) {
	opts, err := prepare.check()
	if err != nil {
		return "", err
	}
	x, _, err := prepare.prepared(context.Background(), opts)
	if err != nil {
		return "", err
	}
	if x == nil {
		paths, err := prepare.list(context.Background())
		if err != nil {
			return "", err
		}
		cache := openHashCache(&prepare)
		cache.readOnly = true
		sources, err := cache.hash(context.Background(), paths, new(meter))
		if err != nil {
			return "", err
		}
		x = &index{TokenizerDigest: prepare.Encoder.Digest(), VocabSize: prepare.Encoder.VocabSize(), Options: opts, Sources: sources}
	}
	return fmt.Sprintf("%x", x.contentDigest()), nil
}

// StreamDigest is what a stream adds to the digest of a [Dataset].
type StreamDigest struct {
	Samples       string // Samples.Digest
	Weight, Share float64
}

// DatasetDigest is the Digest of the Dataset of these streams. One stream of weight 1 is its samples.
func DatasetDigest(seed uint64, streams ...StreamDigest) string {
	for i, s := range streams {
		if s.Weight == 0 || s.Share > 0 {
			streams[i].Weight = 1
		}
	}
	if len(streams) == 1 && (streams[0].Weight == 1 || streams[0].Share > 0) {
		return streams[0].Samples
	}
	h := sha256.New()
	// Encoding strings and finite numbers into a hash cannot fail.
	_ = json.NewEncoder(h).Encode([]any{"ddprun dataset", 1, seed, streams})
	return fmt.Sprintf("%x", h.Sum(nil))
}
