package shard

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// defaultShardBytes is the size of a shard's tokens unless a configuration says
// otherwise.
const defaultShardBytes = 64 << 20

// DefaultMaxDocumentBytes is the size of a document unless a configuration says otherwise. A document is held in memory several times
// over while it is tokenized.
const DefaultMaxDocumentBytes = 16 << 20

// PrepareConfig says what to prepare. Dir, Paths, TextUnit, SentenceUnit and Encoder
// are required.
type PrepareConfig struct {
	Dir   string   // holds prepared corpora, each in a directory named by its digest
	Paths []string // files, directories (the files of known endings in them) and globs; or one prepared directory; or "-"

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

	MaxDocumentBytes int64   // of a document, or the record that holds it; default 16 MiB
	OnError          OnError // default: stop

	// Stdin is read where Paths is "-" alone; StdinFormat is the ending of a file like it, such as "jsonl.gz", default "txt". It is kept
	// on disk while it is prepared.
	Stdin       io.Reader
	StdinFormat string

	// Remote, if set, reads the paths that are URLs.
	Remote Remote

	// Waiting, if set, is called once when another process of this node holds Dir.
	Waiting func()
	// Progress, if set, is called several times a second, and a last time before Prepare returns, by one goroutine.
	Progress func(Progress)

	partBytes  int64         // least size of a part's sources
	host       string        // this node, as its locks, claims and temporary files name it
	claimStale time.Duration // after which another node's claim is taken over
	spool      string        // the file that Stdin was written to
}

// Report says what Prepare did.
type Report struct {
	Dir    string // what Open takes
	From   string // of shards behind a URL: where their index lies, which Open takes too
	Digest string // of everything that the shards depend on, in hexadecimal
	Reused bool   // the shards were there already; nothing was written
	Shards int
	Parts  int // that this process made; those that were there, or were made by other nodes, do not count
	Counts
	Skipped Skipped // bad records that were passed over
	Sources []Source
}

// maxRelists is how often Prepare begins again, with on_error: skip, since sources vanish or change.
const maxRelists = 3

// Prepare turns files into token shards, or finds that it has been done. It blocks until the shards are on disk. One process of a
// node works in Dir, others of the node wait for it; nodes that share Dir share the work. Nothing incomplete is ever seen under
// Report.Dir: what a killed Prepare has finished, the next one goes on from.
//
// The sources are read twice, first for the digest; one that changes meanwhile is an error, or with OnErrorSkip has the work begin
// again with what is there then. A corpus without a token is an error.
//
// A directory that Prepare has made, or the URL of a copy of it, may be the only path: its shards are taken as they are, if they are of
// this tokenizer.
func Prepare(ctx context.Context, cfg PrepareConfig) (report Report, err error) {
	opts, err := cfg.check()
	if err != nil {
		return Report{}, err
	}
	if x, from, err := cfg.prepared(ctx, opts); x != nil || err != nil {
		if err != nil {
			return Report{}, err
		}
		dir := filepath.Clean(cfg.Paths[0])
		if from != "" {
			if dir, err = cfg.keepIndex(x); err != nil {
				return Report{}, err
			}
		}
		report := x.report(dir, true)
		report.From = from
		return report, nil
	}
	if cfg.isStdin() {
		remove, err := cfg.spoolStdin(ctx)
		if err != nil {
			return Report{}, err
		}
		defer remove()
	}
	m := new(meter)
	defer m.watch(cfg.Progress)()
	var vanished Skipped
	for try := 0; ; try++ {
		report, err = prepareOnce(ctx, &cfg, opts, m)
		var changed *changedError
		if cfg.OnError != OnErrorSkip || !errors.As(err, &changed) || try == maxRelists {
			report.Skipped.merge(vanished)
			return report, err
		}
		vanished.add(&BadRecord{Path: changed.path, Offset: -1, Reason: ReasonVanished, Err: err})
	}
}

func prepareOnce(ctx context.Context, cfg *PrepareConfig, opts options, m *meter) (Report, error) {
	paths, err := cfg.list(ctx)
	if err != nil {
		return Report{}, err
	}
	cache := openHashCache(cfg)
	if sources, known, err := cache.known(ctx, paths); err != nil {
		return Report{}, err
	} else if known {
		x := cfg.newIndex(opts, sources)
		if report, ok, err := reuse(cfg, x); ok && swept(report.Dir) || err != nil {
			return report, err
		}
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return Report{}, fmt.Errorf("shard: %w", err)
	}
	unlock, err := lockFile(ctx, filepath.Join(cfg.Dir, lockName+"-"+cfg.host), cfg.Waiting)
	if err != nil {
		return Report{}, err
	}
	defer unlock()
	if err := cfg.clean(); err != nil {
		return Report{}, err
	}
	cache = openHashCache(cfg) // whoever held the lock may have hashed them
	sources, err := cache.hash(ctx, paths, m)
	if err != nil {
		return Report{}, err
	}
	x := cfg.newIndex(opts, sources)
	report, ok, err := reuse(cfg, x)
	if ok {
		err = errors.Join(err, sweep(report.Dir))
	}
	if ok || err != nil {
		return report, err
	}
	return build(ctx, cfg, x, m)
}

// clean removes what killed processes of this node left, and works that nobody goes on with. The caller holds the lock.
func (cfg *PrepareConfig) clean() error {
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return fmt.Errorf("shard: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join(cfg.Dir, entry.Name())
		mine := strings.HasPrefix(entry.Name(), tmpPrefix+cfg.host+"-")
		stale := strings.HasPrefix(entry.Name(), tmpPrefix) || strings.HasPrefix(entry.Name(), workPrefix)
		if mine || stale && time.Since(lastTouched(path)) > workKept {
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("shard: remove what an earlier run left: %w", err)
			}
		}
	}
	return nil
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
	if cfg.TextField == "" {
		cfg.TextField = "text"
	}
	if cfg.MaxDocumentBytes == 0 {
		cfg.MaxDocumentBytes = DefaultMaxDocumentBytes
	}
	if cfg.OnError == "" {
		cfg.OnError = OnErrorStop
	}
	if cfg.partBytes == 0 {
		cfg.partBytes = defaultPartBytes
	}
	if cfg.host == "" {
		cfg.host = thisHost()
	}
	if cfg.claimStale == 0 {
		cfg.claimStale = claimStale
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
	case cfg.MaxDocumentBytes < 1 || cfg.MaxDocumentBytes > maxDocumentBytes:
		return options{}, fmt.Errorf("shard: max_document_bytes is %d; it is 1 to 2^32 - 1", cfg.MaxDocumentBytes)
	case cfg.OnError != OnErrorStop && cfg.OnError != OnErrorSkip:
		return options{}, fmt.Errorf("shard: on_error is %q; it is stop or skip", cfg.OnError)
	case cfg.Workers < 1:
		return options{}, fmt.Errorf("shard: %d workers", cfg.Workers)
	case (cfg.Keep == nil) != (cfg.KeepDigest == ""):
		return options{}, fmt.Errorf("shard: Keep and KeepDigest go together")
	}
	opts := options{TextUnit: cfg.TextUnit, SentenceUnit: cfg.SentenceUnit, EncodingErrors: cfg.EncodingErrors,
		Keep: cfg.KeepDigest, MaxDocument: cfg.MaxDocumentBytes, ShardBytes: cfg.ShardBytes, PartBytes: cfg.partBytes}
	if cfg.TextField != defaultTextField {
		opts.TextField = cfg.TextField
	}
	if cfg.SentenceUnit == SentenceAuto {
		opts.Segmenter = cfg.SegmentDigest
	}
	return opts, nil
}

// newIndex is the index of what is to be made.
func (cfg *PrepareConfig) newIndex(opts options, sources []Source) *index {
	digest := corpusDigest(cfg.Encoder.Digest(), cfg.Encoder.VocabSize(), opts, sources)
	return &index{Format: indexFormat, Version: Version, Digest: hex.EncodeToString(digest[:]),
		TokenizerDigest: cfg.Encoder.Digest(), VocabSize: cfg.Encoder.VocabSize(),
		TokenBytes: int(tokenBytesFor(int64(cfg.Encoder.VocabSize()))), Options: opts, Sources: sources}
}

// reuse looks for shards of the same inputs. What does not open, since it is not there
// or is damaged, is to be built.
func reuse(cfg *PrepareConfig, x *index) (Report, bool, error) {
	dir := corpusDir(cfg.Dir, x.digest())
	found, err := openPrepared(dir, x.Digest)
	if err != nil {
		return Report{}, false, nil
	}
	if cfg.OnError != OnErrorSkip && len(found.Skipped.Examples) > 0 {
		return Report{}, false, stopAt(found.Skipped)
	}
	return found.report(dir, true), true, nil
}

func (x *index) report(dir string, reused bool) Report {
	return Report{Dir: dir, Digest: x.Digest, Reused: reused, Shards: len(x.Shards), Counts: x.Counts, Skipped: x.Skipped, Sources: x.Sources}
}

// build makes the shards. The caller holds the lock.
func build(ctx context.Context, cfg *PrepareConfig, x *index, m *meter) (Report, error) {
	w := newWorkshop(cfg, x, m)
	if err := w.run(ctx); err != nil {
		return Report{}, err
	}
	found, err := openPrepared(w.final, x.Digest)
	if err != nil {
		return Report{}, err
	}
	report := found.report(w.final, false)
	report.Parts = w.made
	return report, nil
}
