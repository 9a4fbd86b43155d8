package shard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
)

// defaultShardBytes is the size of a shard's tokens unless a configuration says
// otherwise.
const defaultShardBytes = 64 << 20

// PrepareConfig says what to prepare. Dir, Paths, TextUnit, SentenceUnit and Encoder
// are required.
type PrepareConfig struct {
	Dir   string   // holds prepared corpora, each in a directory named by its digest
	Paths []string // files, directories (the files of known endings in them) and globs

	TextUnit       TextUnit // of plain text; elsewhere a record is a document
	TextField      string   // of a record, that holds its text; default: text
	SentenceUnit   SentenceUnit
	EncodingErrors EncodingErrors // default: strict

	// Segment cuts a document's text into sentences, for SentenceAuto. It is called
	// by several goroutines. SegmentDigest names it: other cuts, another digest.
	Segment       func(text string) []string
	SegmentDigest string

	Encoder Encoder

	// Keep, if set, says whether a document's tokens hold anything to train on; those
	// that do not are dropped and counted. It may not retain the tokens. KeepDigest
	// names it: other answers, another digest.
	Keep       func(tokens []uint32) bool
	KeepDigest string

	ShardBytes int64 // of tokens in a shard, before a new one is begun; default 64 MiB
	Workers    int   // encoding goroutines; default GOMAXPROCS

	// Waiting, if set, is called once when another process holds Dir.
	Waiting func()
}

// Report says what Prepare did.
type Report struct {
	Dir    string // what Open takes
	Digest string // of everything that the shards depend on, in hexadecimal
	Reused bool   // the shards were there already; nothing was written
	Shards int
	Counts
	Sources []Source
}

// Prepare turns text files into token shards, or finds that it has been done. It
// blocks until the shards are on disk; processes that prepare in the same Dir wait
// for each other. Nothing incomplete is ever seen under Report.Dir: a killed Prepare
// leaves a temporary directory that the next one removes.
//
// The sources are read twice, first for the digest; one that changes meanwhile is an
// error, as is a corpus without a token.
func Prepare(ctx context.Context, cfg PrepareConfig) (Report, error) {
	opts, err := cfg.check()
	if err != nil {
		return Report{}, err
	}
	paths, err := listSources(cfg.Paths)
	if err != nil {
		return Report{}, err
	}
	cache := openHashCache(cfg.Dir)
	if sources, known, err := cache.sources(paths, false); err != nil {
		return Report{}, err
	} else if known {
		if report, ok := reuse(&cfg, opts, sources); ok {
			return report, nil
		}
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return Report{}, fmt.Errorf("shard: %w", err)
	}
	unlock, err := lockDir(ctx, cfg.Dir, cfg.Waiting)
	if err != nil {
		return Report{}, err
	}
	defer unlock()
	if err := cleanTemporary(cfg.Dir); err != nil {
		return Report{}, err
	}
	cache = openHashCache(cfg.Dir) // whoever held the lock may have hashed them
	sources, _, err := cache.sources(paths, true)
	if err != nil {
		return Report{}, err
	}
	cache.save()
	if report, ok := reuse(&cfg, opts, sources); ok {
		return report, nil
	}
	return build(ctx, &cfg, opts, sources)
}

// check fills in defaults and refuses what cannot be.
func (cfg *PrepareConfig) check() (options, error) {
	if cfg.EncodingErrors == "" {
		cfg.EncodingErrors = EncodingStrict
	}
	if cfg.ShardBytes == 0 {
		cfg.ShardBytes = defaultShardBytes
	}
	if cfg.Workers == 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	switch cfg.TextUnit {
	case TextFile, TextParagraph, TextLine:
	default:
		return options{}, fmt.Errorf("shard: text_unit is %q; it is file, paragraph or line", cfg.TextUnit)
	}
	switch cfg.SentenceUnit {
	case SentenceNone, SentenceLine:
	case SentenceAuto:
		if cfg.Segment == nil || cfg.SegmentDigest == "" {
			return options{}, fmt.Errorf("shard: sentence_unit auto needs a segmenter and its digest; line needs none")
		}
	default:
		return options{}, fmt.Errorf("shard: sentence_unit is %q; it is line, auto or none", cfg.SentenceUnit)
	}
	if cfg.EncodingErrors != EncodingStrict && cfg.EncodingErrors != EncodingReplace {
		return options{}, fmt.Errorf("shard: encoding_errors is %q; it is strict or replace", cfg.EncodingErrors)
	}
	switch {
	case cfg.Dir == "":
		return options{}, fmt.Errorf("shard: no directory for the shards is named")
	case cfg.Encoder == nil:
		return options{}, fmt.Errorf("shard: no tokenizer is given")
	case cfg.Encoder.VocabSize() < 1 || int64(cfg.Encoder.VocabSize()) > math.MaxUint32:
		return options{}, fmt.Errorf("shard: the tokenizer has a vocabulary of %d", cfg.Encoder.VocabSize())
	case cfg.ShardBytes < 1 || cfg.ShardBytes > 1<<32:
		return options{}, fmt.Errorf("shard: a shard of %d bytes; it is 1 to 2^32", cfg.ShardBytes)
	case cfg.Workers < 1:
		return options{}, fmt.Errorf("shard: %d workers", cfg.Workers)
	case (cfg.Keep == nil) != (cfg.KeepDigest == ""):
		return options{}, fmt.Errorf("shard: Keep and KeepDigest go together")
	}
	opts := options{TextUnit: cfg.TextUnit, SentenceUnit: cfg.SentenceUnit, EncodingErrors: cfg.EncodingErrors,
		Keep: cfg.KeepDigest, ShardBytes: cfg.ShardBytes}
	if cfg.TextField != defaultTextField {
		opts.TextField = cfg.TextField
	}
	if cfg.SentenceUnit == SentenceAuto {
		opts.Segmenter = cfg.SegmentDigest
	}
	return opts, nil
}

// reuse looks for shards of the same inputs. What does not open, since it is not there
// or is damaged, is to be built.
func reuse(cfg *PrepareConfig, opts options, sources []Source) (Report, bool) {
	digest := corpusDigest(cfg.Encoder.Digest(), cfg.Encoder.VocabSize(), opts, sources)
	dir := corpusDir(cfg.Dir, digest)
	corpus, err := Open(dir, OpenConfig{})
	if err != nil {
		return Report{}, false
	}
	defer corpus.Close()
	return corpus.index.report(dir, true), corpus.Digest() == hex.EncodeToString(digest[:])
}

func corpusDir(dir string, digest [sha256.Size]byte) string {
	return filepath.Join(dir, hex.EncodeToString(digest[:16]))
}

func (x *index) report(dir string, reused bool) Report {
	return Report{Dir: dir, Digest: x.Digest, Reused: reused, Shards: len(x.Shards), Counts: x.Counts, Sources: x.Sources}
}

// build writes the shards into a temporary directory and renames it. The caller
// holds the lock.
func build(ctx context.Context, cfg *PrepareConfig, opts options, sources []Source) (Report, error) {
	digest := corpusDigest(cfg.Encoder.Digest(), cfg.Encoder.VocabSize(), opts, sources)
	tmp, err := os.MkdirTemp(cfg.Dir, tmpPrefix+"shards-*")
	if err != nil {
		return Report{}, fmt.Errorf("shard: %w", err)
	}
	defer os.RemoveAll(tmp)
	x := &index{Format: indexFormat, Version: Version, Digest: hex.EncodeToString(digest[:]),
		TokenizerDigest: cfg.Encoder.Digest(), VocabSize: cfg.Encoder.VocabSize(),
		TokenBytes: int(tokenBytesFor(int64(cfg.Encoder.VocabSize()))), Options: opts, Sources: sources}
	if err := writeShards(ctx, cfg, x, tmp); err != nil {
		return Report{}, err
	}
	if err := x.write(tmp); err != nil {
		return Report{}, fmt.Errorf("shard: %w", err)
	}
	dir := corpusDir(cfg.Dir, digest)
	if err := publish(tmp, dir); err != nil {
		return Report{}, fmt.Errorf("shard: %w", err)
	}
	return x.report(dir, false), nil
}

// publish gives a complete directory its name. What has that name already did not
// open, so it goes.
func publish(tmp, dir string) error {
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// writeShards runs the pipeline into dir and fills in the counts and shards of x.
func writeShards(ctx context.Context, cfg *PrepareConfig, x *index, dir string) error {
	var textBytes int64
	for _, source := range x.Sources {
		textBytes += source.Bytes
	}
	digest := x.digest()
	w := newWriter(dir, 0, [16]byte(digest[:16]), x.VocabSize, cfg.ShardBytes, textBytes)
	var tokens []uint32
	p := pipeline{
		encoder: cfg.Encoder,
		workers: cfg.Workers,
		cut:     func(text string) []string { return sentences(text, cfg.SentenceUnit, cfg.Segment) },
		read:    func(yield func(document) error) error { return readSources(cfg, x, yield) },
		emit: func(doc document, encodings []Encoding) error {
			tokens = appendIDs(tokens[:0], encodings)
			switch {
			case len(tokens) == 0:
				x.Counts.EmptyDocuments++
				return nil
			case cfg.Keep != nil && !cfg.Keep(tokens):
				x.Counts.DroppedDocuments++
				return nil
			}
			x.Sources[doc.source].Documents++
			return w.add(doc, encodings)
		},
	}
	if err := p.run(ctx); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return fmt.Errorf("shard: %w", err)
	}
	x.Shards = w.shards
	for _, s := range w.shards {
		x.Counts.Documents += s.Documents
		x.Counts.Sentences += s.Sentences
		x.Counts.Tokens += s.Tokens
	}
	if x.Counts.Documents == 0 {
		return fmt.Errorf("shard: the corpus is empty: %d files (the first is %s) hold no text to train on; "+
			"%d documents had no token, %d nothing to train on", len(x.Sources), x.Sources[0].Path,
			x.Counts.EmptyDocuments, x.Counts.DroppedDocuments)
	}
	return nil
}

func appendIDs(dst []uint32, encodings []Encoding) []uint32 {
	for _, e := range encodings {
		dst = append(dst, e.IDs...)
	}
	return dst
}

// readSources hands on the documents of every source, in order, and checks that each
// file is still the one that the digest saw.
func readSources(cfg *PrepareConfig, x *index, yield func(document) error) error {
	for i, source := range x.Sources {
		if err := readOne(cfg, x, i, source, yield); err != nil {
			return err
		}
	}
	return nil
}

func readOne(cfg *PrepareConfig, x *index, i int, source Source, yield func(document) error) (err error) {
	d, err := openDocuments(source.Path, i, readOptions{textUnit: cfg.TextUnit, textField: cfg.TextField, encodingErrors: cfg.EncodingErrors})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := readSource(d, yield); err != nil {
		return err
	}
	x.Counts.Replaced += d.replacements()
	sum, err := d.sha256()
	if err == nil && sum != source.SHA256 {
		err = fmt.Errorf("shard: %s changed while it was being read; run again once it is complete", source.Path)
	}
	return err
}
