package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/remote"
	"github.com/ddprun/ddprun/internal/tokenizer"
	"github.com/ddprun/ddprun/internal/train"
	"github.com/ddprun/ddprun/objectives"
	"github.com/ddprun/ddprun/shard"
)

// text is what turns a run's text into samples: tokenizer, objective and the longest sample.
type text struct {
	encoder
	vocab      objectives.Vocab
	objectives *objectives.Mixture
	maxTokens  int // of a sample, special tokens included
	// encodesAgain: reconstruction encodes words again after it has moved them, so the tokenizer must stay open.
	encodesAgain bool

	stdin       io.Reader // what data: - is; nil where that is not taken
	stdinFormat string
	remote      shard.Remote // reads URLs

	activity *train.Activity // of the rank that wants the text; nil: nobody asks
}

// openText reads the tokenizer and checks it, the model and the objective against each other. The caller closes tok.
func openText(c *config.Config) (*text, error) {
	tok, json, err := openTokenizer(c.Model)
	if err != nil {
		return nil, inputError{err}
	}
	t := &text{encoder: encoder{tok: tok}, remote: remote.New()}
	if err := t.open(c, json); err != nil {
		tok.Close()
		return nil, err
	}
	return t, nil
}

// open fills t but for its tokenizer, which was read from json.
func (t *text) open(c *config.Config, json []byte) (err error) {
	if t.digest, err = tokenizer.Digest(json); err != nil {
		return inputError{err}
	}
	if tokenizer.CutsAtSpaces(json) {
		t.piece = longText
	}
	if t.size, err = t.tok.VocabSize(true); err != nil {
		return err
	}
	if t.vocab, err = readVocab(c.Model, t.tok, t.size); err != nil {
		return inputError{err}
	}
	limits, err := train.Check(c, t.size)
	if err != nil {
		return err
	}
	t.maxTokens = limits.MaxTokens
	if c.Has("reconstruction") {
		moves, err := t.wordsMove()
		if err != nil {
			return err
		}
		t.encodesAgain = !moves
	}
	if t.objectives, err = t.newObjectives(c, limits); err != nil {
		return inputError{fmt.Errorf("%s: %w", c.Model, err)}
	}
	if t.objectives.TextTokens(t.maxTokens) < 1 {
		return inputError{fmt.Errorf("max_seq_length: %d leaves no room for text beside special tokens", t.maxTokens)}
	}
	return nil
}

// newObjectives makes the objectives that the configuration names.
func (t *text) newObjectives(c *config.Config, limits train.Limits) (*objectives.Mixture, error) {
	var parts []objectives.Part
	for _, m := range c.Mix() {
		objective, err := t.newObjective(c, m.Objective, limits)
		if err != nil {
			return nil, err
		}
		parts = append(parts, objectives.Part{Objective: objective, Name: m.Objective, Weight: m.Weight, LossWeight: m.LossWeight})
	}
	return objectives.NewMixture(parts...)
}

func (t *text) newObjective(c *config.Config, name string, limits train.Limits) (objectives.Objective, error) {
	vocab := t.vocab
	mlm := objectives.MLMConfig{Probability: c.MLMProbability, MaskReplaceProb: c.MaskReplaceProb, RandomReplaceProb: c.RandomReplaceProb,
		WholeWordMask: c.WholeWordMask, PositionOffset: limits.PositionOffset}
	switch name {
	case "reconstruction":
		cfg := objectives.ReconstructionConfig{Probability: c.PerturbationProbability, Perturbation: objectives.Perturbation(c.Perturbation),
			WordOrder: objectives.WordOrder(c.WordOrder), DecoderStart: limits.DecoderStart, MaxTokens: limits.MaxTokens}
		if t.encodesAgain {
			cfg.Encode = t.encodeWords
		}
		return objectives.NewReconstruction(cfg, vocab)
	case "span_corruption":
		return objectives.NewSpanCorruption(objectives.SpanConfig{Density: c.NoiseDensity, MeanLength: c.MeanNoiseSpanLength,
			DecoderStart: limits.DecoderStart}, vocab)
	case "mlm":
		return objectives.NewMLM(mlm, vocab)
	}
	pair := objectives.PairConfig{MaxTokens: limits.MaxTokens, PositionOffset: limits.PositionOffset}
	task, withMLM := strings.CutPrefix(name, "mlm+")
	if pair.Task = objectives.PairTask(task); withMLM {
		pair.MLM = &mlm
	}
	return objectives.NewPair(pair, vocab)
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
	v.CLS, v.SEP, v.Mask, v.Pad, v.EOS = id(names.CLS), id(names.SEP), id(names.MASK), id(names.PAD), id(names.EOS)
	for i := 0; ; i++ {
		sentinel := id(fmt.Sprintf("<extra_id_%d>", i))
		if sentinel == objectives.NoToken {
			break
		}
		v.Sentinels = append(v.Sentinels, sentinel)
	}
	for _, token := range names.All {
		if n := id(token); n != objectives.NoToken {
			v.Special = append(v.Special, n)
		}
	}
	return v, err
}

// prepareConfig says how the text at paths becomes token shards.
func (t *text) prepareConfig(c *config.Config, shardsDir string, paths []string) (shard.PrepareConfig, error) {
	cfg := shard.PrepareConfig{Dir: shardsDir, Paths: paths, TextUnit: shard.TextUnit(c.TextUnit), TextField: c.TextField,
		SentenceUnit: shard.SentenceNone, EncodingErrors: shard.EncodingErrors(c.EncodingErrors), OnError: shard.OnError(c.OnError), MaxDocumentBytes: c.MaxDocumentBytes,
		Encoder: t, Stdin: t.stdin, StdinFormat: t.stdinFormat, Remote: t.remote}
	var err error
	switch c.SentenceUnit {
	case "line":
		cfg.SentenceUnit = shard.SentenceLine
	case "auto":
		cfg.SentenceUnit, cfg.SegmentDigest = shard.SentenceAuto, shard.SegmentDigest
		cfg.Segment, err = shard.Segmenter()
	}
	return cfg, err
}

// sampleConfig says what of the shards is a sample.
func (t *text) sampleConfig(c *config.Config) shard.SampleConfig {
	return shard.SampleConfig{Unit: shard.SampleUnit(c.SampleUnit), Long: shard.Long(c.LongSamples), Group: c.GroupTexts, Separator: t.vocab.SEP, MaxTokens: t.objectives.TextTokens(t.maxTokens),
		Keep: t.objectives.Keep, KeepDigest: t.objectives.KeepDigest()}
}

// corpora are the samples of a run.
type corpora struct {
	train   *shard.Dataset
	eval    []train.EvalSet
	closers []func() error
	made    []string // shards that were not there before, and are small
	reports []namedReport
	cleaned *shard.Cleaned // nil: all documents count
}

// namedReport is what preparing has said of a list of texts.
type namedReport struct {
	name string
	shard.Report
}

// close closes all that is open; what was returned must not be used after it.
func (d *corpora) close() {
	for i := len(d.closers) - 1; i >= 0; i-- {
		d.closers[i]() // they unmap files
	}
}

// undo removes the shards that were made; other processes that want them make them again. What took long to make stays.
func (d *corpora) undo() {
	for _, dir := range d.made {
		os.RemoveAll(dir)
	}
}

// withCorpora opens a run's text and samples for f; rank is what newLogger wants.
func withCorpora(cmd *cobra.Command, c *config.Config, rank int, f func(t *text, data *corpora) error) error {
	t, err := openText(c)
	if err != nil {
		return err
	}
	defer t.tok.Close()
	return t.withCorpora(cmd, c, rank, f)
}

func (t *text) withCorpora(cmd *cobra.Command, c *config.Config, rank int, f func(t *text, data *corpora) error) error {
	ctx, release := untilSignal(cmd.Context())
	data, err := t.openCorpora(ctx, c, shardsDir(c), cmd.ErrOrStderr(), newLogger(cmd.ErrOrStderr(), c, rank))
	err = stopped(ctx, err)
	release()
	defer data.close()
	if err != nil {
		return err
	}
	return f(t, data)
}

// openCorpora prepares and opens the text of a run. The caller closes what it gets, also after an error.
func (t *text) openCorpora(ctx context.Context, c *config.Config, shardsDir string, stderr io.Writer, log zerolog.Logger) (*corpora, error) {
	d := &corpora{}
	err := t.openAll(ctx, c, d, shardsDir, stderr, log)
	if err != nil && ctx.Err() == nil && !isStorageError(err) {
		err = inputError{err}
	}
	return d, err
}

func (t *text) openAll(ctx context.Context, c *config.Config, d *corpora, shardsDir string, stderr io.Writer, log zerolog.Logger) error {
	open := func(name string, data config.Data) ([]stream, error) {
		var streams []stream
		for _, s := range data {
			of := name
			if s.Name != "" {
				of += "." + s.Name
			}
			corpus, err := t.openCorpus(ctx, c, d, shardsDir, of, s.Paths, stderr, log)
			if err != nil {
				return nil, err
			}
			streams = append(streams, stream{DataStream: s, text: of, corpus: corpus})
		}
		return streams, nil
	}
	training, err := open("data", c.Data)
	if err != nil {
		return err
	}
	var sets [][]stream
	for _, set := range c.EvalData {
		name := "eval_data"
		if set.Name != "" {
			name += "." + set.Name
		}
		streams, err := open(name, config.DataOf(set.Paths...))
		if err != nil {
			return err
		}
		sets = append(sets, streams)
	}
	heldOut, err := clean(ctx, c, d, shardsDir, training, sets, log)
	if err != nil {
		return err
	}
	if len(heldOut) > 0 {
		sets = append(sets, heldOut)
	}
	if d.train, err = t.openDataset(ctx, c, d, training, log); err != nil {
		return err
	}
	for i, name := range c.EvalSets() {
		samples, err := t.openDataset(ctx, c, d, sets[i], log)
		if err != nil {
			return err
		}
		d.eval = append(d.eval, train.EvalSet{Name: name, Samples: samples})
	}
	return nil
}

// stream is text that is prepared and open.
type stream struct {
	config.DataStream
	text      string // for the log: data, data.NAME, ...
	corpus    *shard.Corpus
	documents *shard.DocumentSet // that count; nil: all
}

// openDataset opens the samples of streams.
func (t *text) openDataset(ctx context.Context, c *config.Config, d *corpora, from []stream, log zerolog.Logger) (*shard.Dataset, error) {
	var streams []shard.Stream
	var paths []string
	for _, s := range from {
		samples, err := t.openSamples(ctx, c, d, s, log)
		if err != nil {
			return nil, fmt.Errorf("text %s: %w", strings.Join(s.Paths, ", "), err)
		}
		streams = append(streams, shard.Stream{Name: s.Title(), Samples: samples, Weight: s.Weight, Share: s.Share})
		paths = append(paths, s.Paths...)
	}
	set, err := shard.NewDataset(uint64(c.DataSeed), streams...)
	if err == nil && c.RandomSentences() {
		if err = set.CheckNegatives(c.NSPNegatives == "any"); err != nil {
			err = fmt.Errorf("text %s: %w", strings.Join(paths, ", "), err)
		}
	}
	return set, err
}

// openCorpus prepares the text at paths, where that has not been done, and opens it for d, which owns it. One process of a node
// works, the others wait.
func (t *text) openCorpus(ctx context.Context, c *config.Config, d *corpora, shardsDir, name string, paths []string, stderr io.Writer, log zerolog.Logger) (*shard.Corpus, error) {
	cfg, err := t.prepareConfig(c, shardsDir, paths)
	if err != nil {
		return nil, err
	}
	t.activity.Prepare(false)
	cfg.Waiting = func() {
		log.Info().Msg("another process prepares the text: waiting")
		t.activity.Prepare(true)
	}
	bar := newProgress(stderr, log)
	var last shard.Progress
	cfg.Progress = func(now shard.Progress) {
		bar.show(now)
		if now != last {
			last = now
			t.activity.Prepare(false)
			t.activity.Tick()
		}
	}
	// A shard in the making is most of the memory, and costs the collector nothing to look at: less room for garbage beside it takes 80 MiB
	// less, and no time that can be measured beside the tokenizer's.
	percent := debug.SetGCPercent(50)
	report, err := shard.Prepare(ctx, cfg)
	t.activity.Prepare(false)
	debug.SetGCPercent(percent)
	bar.clear()
	if err != nil {
		return nil, err
	}
	d.reports = append(d.reports, namedReport{name, report})
	if n := report.Skipped.Total(); n > 0 {
		log.Warn().Str("reasons", report.Skipped.Reasons()).Str("first", report.Skipped.Examples[0].String()).Msgf("%s: %d bad records are left out", name, n)
	}
	if !report.Reused {
		if report.Parts < 2 {
			d.made = append(d.made, report.Dir)
		}
		log.Info().Strs("paths", paths).Int64("documents", report.Documents).Int64("tokens", report.Tokens).Str("shards", report.Dir).Msg("text prepared")
	}
	corpus, err := shard.Open(report.Dir, shard.OpenConfig{Remote: t.remote, From: report.From, CacheBytes: c.ShardsCacheBytes})
	if err != nil {
		return nil, err
	}
	d.closers = append(d.closers, corpus.Close)
	return corpus, nil
}

// openSamples opens the samples of a stream for d, which owns them.
func (t *text) openSamples(ctx context.Context, c *config.Config, d *corpora, from stream, log zerolog.Logger) (*shard.Samples, error) {
	cfg := t.sampleConfig(c)
	cfg.Documents = from.documents
	samples, err := from.corpus.Samples(ctx, cfg)
	if errors.Is(err, shard.ErrNothingLeft) {
		err = fmt.Errorf("%w: all tokens are special ones such as the unknown token, or there is nothing beside them, so that objective %s has nothing to mask or to predict; "+
			"does the model's tokenizer know this language?", err, strings.Join(t.objectives.Terms(), " + "))
	}
	if err != nil {
		return nil, err
	}
	d.closers = append(d.closers, samples.Close)
	if r := samples.Report(); r.CutTokens > 0 {
		log.Info().Str("text", from.text).Int64("cut", r.Cut).Int64("tokens", r.CutTokens).Str("share", fmt.Sprintf("%.2f%%", 100*r.CutShare())).
			Msg("longer than a sample: cut off and not trained on (long_samples)")
	}
	if r := samples.Report(); r.LeftOut > 0 && !r.Reused {
		log.Info().Int64("samples", r.LeftOut).Msg("left out: no token but special ones")
	}
	return samples, nil
}

// isStorageError tells a failing or full disk from a text that is wrong.
func isStorageError(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) || errors.Is(err, syscall.EIO)
}

// plansDir is where micro-batches cut by tokens are planned, in the directory of the shards.
func plansDir(shards string) string { return filepath.Join(shards, "plans") }

// shardsDir is where a run keeps its token shards.
func shardsDir(c *config.Config) string {
	if c.ShardsDir != "" {
		return c.ShardsDir
	}
	return filepath.Join(c.OutputDir, ".ddprun", "shards")
}
