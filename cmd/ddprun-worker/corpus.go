package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/tokenizer"
	"github.com/ddprun/ddprun/internal/train"
	"github.com/ddprun/ddprun/objectives"
	"github.com/ddprun/ddprun/shard"
)

// encoder is the tokenizer as shard wants it.
type encoder struct {
	tok    *tokenizer.Tokenizer
	digest string
	size   int
}

func (e *encoder) Digest() string { return e.digest }
func (e *encoder) VocabSize() int { return e.size }

func (e *encoder) Encode(texts []string) ([]shard.Encoding, error) {
	b, err := e.tok.EncodeBatch(texts, tokenizer.Options{NoSpecialTokens: true, WordStarts: true})
	if err != nil {
		return nil, err
	}
	out := make([]shard.Encoding, len(texts))
	for i := range out {
		lo, hi := b.Starts[i], b.Starts[i+1]
		out[i] = shard.Encoding{IDs: b.IDs[lo:hi:hi], WordStart: b.WordStarts[lo:hi:hi]}
	}
	return out, nil
}

// text is what turns a run's text into samples: tokenizer, objective and the longest sample.
type text struct {
	encoder
	vocab     objectives.Vocab
	objective *objectives.MLM
	maxTokens int // of a sample, special tokens included
}

// openText reads the tokenizer and checks it, the model and the objective against each other. The caller closes tok.
func openText(c *config.Config) (*text, error) {
	tok, err := openTokenizer(c.Model)
	if err != nil {
		return nil, inputError{err}
	}
	t := &text{encoder: encoder{tok: tok}}
	if err := t.open(c); err != nil {
		tok.Close()
		return nil, err
	}
	return t, nil
}

func (t *text) open(c *config.Config) error {
	json, err := hf.TokenizerJSON(c.Model)
	if err != nil {
		return inputError{err}
	}
	if t.digest, err = tokenizer.Digest(json); err != nil {
		return inputError{err}
	}
	if t.size, err = t.tok.VocabSize(true); err != nil {
		return err
	}
	if t.vocab, err = readVocab(c.Model, t.tok, t.size); err != nil {
		return inputError{err}
	}
	if t.maxTokens, err = train.Check(c.Model, c.MaxSeqLength, t.size); err != nil {
		return err
	}
	t.objective, err = objectives.NewMLM(objectives.MLMConfig{Probability: c.MLMProbability, MaskReplaceProb: c.MaskReplaceProb,
		RandomReplaceProb: c.RandomReplaceProb, WholeWordMask: c.WholeWordMask}, t.vocab)
	if err != nil {
		return inputError{fmt.Errorf("%s: %w", c.Model, err)}
	}
	if t.maxTokens <= t.objective.SpecialTokens() {
		return inputError{fmt.Errorf("max_seq_length: %d leaves no room for text beside %d special tokens", t.maxTokens, t.objective.SpecialTokens())}
	}
	return nil
}

// readVocab looks up the special tokens that the tokenizer's files name.
func readVocab(dir string, tok *tokenizer.Tokenizer, size int) (objectives.Vocab, error) {
	names, err := hf.ReadSpecialTokens(dir)
	if err != nil {
		return objectives.Vocab{}, err
	}
	v := objectives.Vocab{Size: size}
	id := func(token string) uint32 {
		if token == "" || err != nil {
			return objectives.NoToken
		}
		n, found, e := tok.TokenToID(token)
		if e != nil {
			err = e
		}
		if !found {
			return objectives.NoToken
		}
		return n
	}
	v.CLS, v.SEP, v.Mask, v.Pad = id(names.CLS), id(names.SEP), id(names.MASK), id(names.PAD)
	for _, token := range names.All {
		if n := id(token); n != objectives.NoToken {
			v.Special = append(v.Special, n)
		}
	}
	return v, err
}

// samples prepares the text at paths, where that has not been done, and opens its samples. One process of a node works, the others
// wait. The caller closes both results.
func (t *text) samples(ctx context.Context, c *config.Config, shardsDir string, paths []string, log zerolog.Logger) (*shard.Corpus, *shard.Samples, error) {
	report, err := shard.Prepare(ctx, shard.PrepareConfig{Dir: shardsDir, Paths: paths, TextUnit: shard.TextUnit(c.TextUnit),
		SentenceUnit: sentenceUnit(c), EncodingErrors: shard.EncodingErrors(c.EncodingErrors), Encoder: t,
		Waiting: func() { log.Info().Msg("another process prepares the text: waiting") }})
	if err != nil {
		return nil, nil, inputError{err}
	}
	if !report.Reused {
		log.Info().Strs("paths", paths).Int64("documents", report.Documents).Int64("tokens", report.Tokens).Str("shards", report.Dir).Msg("text prepared")
	}
	corpus, err := shard.Open(report.Dir, shard.OpenConfig{})
	if err != nil {
		return nil, nil, err
	}
	samples, err := corpus.Samples(ctx, shard.SampleConfig{Unit: shard.SampleUnit(c.SampleUnit), MaxTokens: t.maxTokens - t.objective.SpecialTokens(),
		Keep: t.objective.Maskable, KeepDigest: "mlm-maskable-1"})
	if err == nil && samples.Len() == 0 {
		samples.Close()
		err = inputError{fmt.Errorf("%q: there is nothing to train on: no document has a token that can be masked", paths)}
	}
	if err != nil {
		corpus.Close()
		return nil, nil, err
	}
	if r := samples.Report(); r.LeftOut > 0 && !r.Reused {
		log.Info().Int64("samples", r.LeftOut).Msg("left out: no token that can be masked")
	}
	return corpus, samples, nil
}

func sentenceUnit(c *config.Config) shard.SentenceUnit {
	if c.SentenceUnit == "line" || c.SampleUnit == "sentence" {
		return shard.SentenceLine
	}
	return shard.SentenceNone
}

// corpora are the samples of a run.
type corpora struct {
	train   *shard.Samples
	eval    []train.EvalSet
	closers []func() error
}

func (c *corpora) close() {
	for i := len(c.closers) - 1; i >= 0; i-- {
		c.closers[i]()
	}
}

// openCorpora prepares and opens the text of a run. The caller closes what it gets, also after an error.
func (t *text) openCorpora(ctx context.Context, c *config.Config, shardsDir string, log zerolog.Logger) (*corpora, error) {
	out := &corpora{}
	open := func(paths []string) (*shard.Samples, error) {
		corpus, samples, err := t.samples(ctx, c, shardsDir, paths, log)
		if err == nil {
			out.closers = append(out.closers, corpus.Close, samples.Close)
		}
		return samples, err
	}
	var err error
	if out.train, err = open(c.Data); err != nil {
		return out, err
	}
	for _, set := range c.EvalData {
		samples, err := open(set.Paths)
		if err != nil {
			return out, err
		}
		out.eval = append(out.eval, train.EvalSet{Name: set.Name, Samples: samples})
	}
	return out, nil
}

// shardsDir is where a run keeps its token shards.
func shardsDir(c *config.Config) string {
	if c.ShardsDir != "" {
		return c.ShardsDir
	}
	return filepath.Join(c.OutputDir, ".ddprun", "shards")
}
