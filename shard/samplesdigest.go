package shard

import (
	"context"
	"fmt"
)

// SamplesDigest is the Digest of the Samples that Prepare and Corpus.Samples would give for these configurations. It
// prepares and writes nothing; texts whose hashes are not known are read. So a run can be told apart from another one's
// continuation before anything is made for it.
func SamplesDigest(prepare PrepareConfig, samples SampleConfig) (string, error) {
	opts, err := prepare.check()
	if err != nil {
		return "", err
	}
	samples.Dir = prepare.Dir // check wants one
	if err := samples.check(nil); err != nil {
		return "", err
	}
	x, err := prepare.prepared(opts)
	if err != nil {
		return "", err
	}
	if x == nil {
		paths, err := prepare.list()
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
	return fmt.Sprintf("%x", samples.digest(fmt.Sprintf("%x", x.contentDigest()))), nil
}
