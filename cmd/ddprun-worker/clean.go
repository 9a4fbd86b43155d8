package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/shard"
)

// cleanConfig says which documents of the training text count.
func cleanConfig(c *config.Config, shardsDir string) shard.CleanConfig {
	return shard.CleanConfig{Dir: shardsDir, MinTokens: c.MinDocumentTokens, MaxTokens: c.MaxDocumentTokens,
		Deduplicate: shard.Deduplicate(c.Deduplicate), NearThreshold: c.NearDuplicateThreshold, HeldOutPercent: c.ValidationSplitPercentage}
}

// clean gives each training stream the documents that count, and returns the streams of what is held out of them. sets is the text of eval_data.
// d owns what is opened. One process of a node works, the others wait.
func clean(ctx context.Context, c *config.Config, d *corpora, shardsDir string, training []stream, sets [][]stream, log zerolog.Logger) ([]stream, error) {
	cfg := cleanConfig(c, shardsDir)
	if !cfg.Needed() {
		return nil, nil
	}
	cfg.Waiting = func() { log.Info().Msg("another process looks for the documents that count: waiting") }
	var corpora, eval []*shard.Corpus
	for _, s := range training {
		corpora = append(corpora, s.corpus)
	}
	for _, set := range sets {
		for _, s := range set {
			eval = append(eval, s.corpus)
		}
	}
	cleaned, err := shard.Clean(ctx, corpora, eval, cfg)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	d.cleaned = cleaned
	d.closers = append(d.closers, cleaned.Close)
	if !cleaned.Reused {
		d.made = append(d.made, cleaned.Dir)
	}
	log.Info().Str("report", cleaned.ReportPath()).Msgf("data: %s", cleaned.Report.String())
	var heldOut []stream
	for i := range training {
		training[i].documents = cleaned.Training[i]
		if len(cleaned.HeldOut) > 0 && cleaned.HeldOut[i].Len() > 0 {
			of := training[i].DataStream
			of.Weight, of.Share = 1, 0
			heldOut = append(heldOut, stream{of, training[i].text + ", held out", training[i].corpus, cleaned.HeldOut[i]})
		}
	}
	return heldOut, nil
}

// trainingDigest is the digest of the training samples, for which nothing is prepared.
func (t *text) trainingDigest(c *config.Config) (string, error) {
	contents := func(texts ...[]string) (digests []string, err error) {
		for _, paths := range texts {
			prepare, err := t.prepareConfig(c, shardsDir(c), paths)
			if err != nil {
				return nil, err
			}
			digest, err := shard.ContentDigest(prepare)
			if err != nil {
				return nil, err
			}
			digests = append(digests, digest)
		}
		return digests, nil
	}
	var data, sets [][]string
	for _, s := range c.Data {
		data = append(data, s.Paths)
	}
	cfg := cleanConfig(c, shardsDir(c))
	if cfg.Deduplicate != shard.DeduplicateNone {
		for _, set := range c.EvalData {
			sets = append(sets, set.Paths)
		}
	}
	training, err := contents(data...)
	if err != nil {
		return "", err
	}
	eval, err := contents(sets...)
	if err != nil {
		return "", err
	}
	var streams []shard.StreamDigest
	for i, s := range c.Data {
		samples := t.sampleConfig(c)
		if cfg.Needed() {
			if samples.DocumentsDigest, err = shard.DocumentsDigest(training, eval, cfg, i); err != nil {
				return "", err
			}
		}
		digest, err := samples.ContentDigest(training[i])
		if err != nil {
			return "", err
		}
		streams = append(streams, shard.StreamDigest{Samples: digest, Weight: s.Weight, Share: s.Share})
	}
	return shard.DatasetDigest(uint64(c.DataSeed), streams...), nil
}

// printCleaned says what became of the documents of data, stream by stream, and gives the first example of each reason.
func printCleaned(w io.Writer, c *config.Config, cleaned *shard.Cleaned) {
	for i, s := range cleaned.Report.Streams {
		name := "data"
		if c.Data[i].Name != "" {
			name += "." + c.Data[i].Name
		}
		for _, r := range s.Reasons {
			fmt.Fprintf(w, "%s: %s: %d documents, %d tokens\n", name, r.Reason, r.Documents, r.Tokens)
			if len(r.Examples) == 0 {
				continue
			}
			e := r.Examples[0]
			fmt.Fprintf(w, "  such as %s, line %d", e.Path, e.Line)
			if e.Of != nil {
				fmt.Fprintf(w, ", which is that of %s, line %d", e.Of.Path, e.Of.Line)
			}
			fmt.Fprintln(w)
		}
	}
	fmt.Fprintf(w, "more examples: %s\n", filepath.Clean(cleaned.ReportPath()))
}
