package shard

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"sort"

	"golang.org/x/sys/unix"
)

// SampleUnit says what a sample is.
type SampleUnit string

const (
	// Window samples cut a document into runs of at most MaxTokens tokens, the last
	// one shorter. Every token of the corpus is in exactly one window, and no
	// window holds tokens of two documents.
	Window SampleUnit = "window"
	// Sentence samples are sentences; LongSplit or LongTruncate says what happens to
	// longer ones.
	Sentence SampleUnit = "sentence"
	// Document samples are documents; the same choice for longer ones. Split
	// documents are windows.
	Document SampleUnit = "document"
	// Pair samples are two sentences that follow each other in a document, so one of n
	// sentences gives n - 1 pairs. Longer sentences are truncated.
	Pair SampleUnit = "pair"
)

// Long says what becomes of a sentence or document of more than MaxTokens tokens.
type Long string

const (
	LongSplit    Long = "split"    // pieces of MaxTokens tokens, the last one shorter
	LongTruncate Long = "truncate" // its first MaxTokens tokens; the others are not trained on
)

// SampleConfig says how samples are cut out of a corpus.
type SampleConfig struct {
	Unit      SampleUnit
	MaxTokens int  // of a sample, without special tokens; of each sentence of a pair
	Long      Long // default: split; of pairs: truncate

	// Group lets windows go on over the documents of a shard, with the Separator between two. Every token of the corpus is then still in exactly one window; all but a shard's
	// last have MaxTokens, or one less where a document ends there.
	Group     bool
	Separator uint32

	// Keep, if set, says whether a sample, or each sentence of a pair, holds anything to
	// train on; those that do not are left out and counted. It may not retain the tokens. KeepDigest names
	// it: other answers, another digest.
	Keep       func(tokens []uint32) bool
	KeepDigest string

	// Documents, if set, says which documents count (Clean): the others give no samples. DocumentsDigest is its digest; it is given alone where samples
	// are only named (SamplesDigest).
	Documents       *DocumentSet
	DocumentsDigest string

	// Dir holds the sample index; default: the corpus's own directory.
	Dir string
}

// SampleReport says what became of the corpus's tokens.
type SampleReport struct {
	Samples       int64
	Tokens        int64 // in samples
	LeftOut       int64 // samples that SampleConfig.Keep refused
	LeftOutTokens int64
	Cut           int64 // sentences or documents longer than MaxTokens
	CutTokens     int64 // that truncation dropped
	Reused        bool  // the index was there already
}

// CutShare is the part of the text's tokens that truncation dropped.
func (r SampleReport) CutShare() float64 {
	return float64(r.CutTokens) / float64(max(1, r.Tokens+r.LeftOutTokens+r.CutTokens))
}

// Sample is a run of tokens, without special tokens. Its first token counts as the
// start of a word, also where a window begins inside one.
type Sample struct {
	ID        uint64 // its number in the Samples
	Tokens    []uint32
	WordStart []bool // as long as Tokens

	// The second sentence of a pair.
	Next          []uint32
	NextWordStart []bool
}

// Samples are numbered from 0 in the order of the corpus. Several goroutines may
// read them.
type Samples struct {
	corpus *Corpus
	path   string  // of the sample index
	data   []byte  // the mapped index
	first  []int64 // sample of each shard, and the number of samples
	unit   SampleUnit
	max    int64  // tokens in a sample, or in each sentence of a pair
	group  *group // nil: windows are of one document
	digest string
	report SampleReport
}

// Samples cuts the corpus into samples. The index of them lies on disk, is made once
// for a configuration (which reads the whole corpus if Keep is set), and is mapped.
// The caller closes the result before the Corpus. A configuration that leaves no
// sample is an error.
func (c *Corpus) Samples(ctx context.Context, cfg SampleConfig) (*Samples, error) {
	if err := cfg.check(c); err != nil {
		return nil, err
	}
	if cfg.Documents == nil && cfg.DocumentsDigest != "" {
		return nil, fmt.Errorf("shard: DocumentsDigest without Documents: it only names samples")
	}
	digest := cfg.digest(c.Digest())
	path := samplesPath(cfg.Dir, digest)
	s, err := openSamples(c, path, digest, &cfg)
	if err == nil {
		s.report.Reused = true
		return s, nil
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("shard: %w", err)
	}
	unlock, err := lockDir(ctx, cfg.Dir, nil)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Another process may have made it while this one waited.
	if s, err := openSamples(c, path, digest, &cfg); err == nil {
		s.report.Reused = true
		return s, nil
	}
	if err := cleanTemporary(cfg.Dir); err != nil {
		return nil, err
	}
	if err := buildSamples(ctx, c, path, digest, &cfg); err != nil {
		return nil, err
	}
	return openSamples(c, path, digest, &cfg)
}

func (cfg *SampleConfig) check(c *Corpus) error {
	if cfg.Long == "" && cfg.Unit == Pair {
		cfg.Long = LongTruncate
	} else if cfg.Long == "" {
		cfg.Long = LongSplit
	}
	if cfg.Dir == "" {
		cfg.Dir = c.dir
	}
	if cfg.Documents != nil {
		cfg.DocumentsDigest = cfg.Documents.digest
		if c != nil && c.Counts().Documents != cfg.Documents.documents {
			return fmt.Errorf("shard: %s is a set of %d documents; the corpus has %d", cfg.Documents.path, cfg.Documents.documents, c.Counts().Documents)
		}
	}
	switch {
	case cfg.Unit != Window && cfg.Unit != Sentence && cfg.Unit != Document && cfg.Unit != Pair:
		return fmt.Errorf("shard: a sample is %q; it is window, sentence, document or pair", cfg.Unit)
	case cfg.Long != LongSplit && cfg.Long != LongTruncate:
		return fmt.Errorf("shard: long sentences are to be %q; it is split or truncate", cfg.Long)
	case cfg.Unit == Window && cfg.Long != LongSplit:
		return fmt.Errorf("shard: windows hold every token; long documents cannot be truncated")
	case cfg.Group && cfg.Unit != Window:
		return fmt.Errorf("shard: %ss are of one document; only windows go on over several", cfg.Unit)
	case cfg.Unit == Pair && cfg.Long != LongTruncate:
		return fmt.Errorf("shard: a sentence of a pair cannot be split, only truncated")
	case cfg.MaxTokens < 1 || int64(cfg.MaxTokens) > maxTableEntries:
		return fmt.Errorf("shard: samples of at most %d tokens; it is at least 1", cfg.MaxTokens)
	case (cfg.Keep == nil) != (cfg.KeepDigest == ""):
		return fmt.Errorf("shard: Keep and KeepDigest go together")
	}
	return nil
}

// Len is the number of samples.
func (s *Samples) Len() int64 { return s.report.Samples }

// Report says how the corpus was cut.
func (s *Samples) Report() SampleReport { return s.report }

// Digest names the corpus's content and the cut, in hexadecimal: equal digests,
// equal samples, wherever the files lie.
func (s *Samples) Digest() string { return s.digest }

// At fills out with sample i, reusing its slices. It takes constant time but for the
// choice of the shard, which takes the logarithm of their number. It panics if i is
// not in [0, Len).
func (s *Samples) At(i int64, out *Sample) error {
	file, start, length, err := s.locate(i)
	if err != nil {
		return err
	}
	defer file.release()
	out.ID = uint64(i)
	out.Next, out.NextWordStart = out.Next[:0], out.NextWordStart[:0]
	if s.unit == Pair {
		return s.pairAt(file, start, out)
	}
	if s.group != nil {
		out.Tokens, out.WordStart, err = s.group.fill(file, start, length, out.Tokens, out.WordStart)
		return err
	}
	out.Tokens, out.WordStart, err = fill(file, start, start+length, out.Tokens, out.WordStart)
	return err
}

// fill reads the tokens [start, end) into the slices, which it overwrites and returns.
func fill(file *shardFile, start, end int64, tokens []uint32, words []bool) (_ []uint32, _ []bool, err error) {
	defer faultError(file.path, debug.SetPanicOnFault(true), &err)
	if tokens, err = file.appendTokens(tokens[:0], start, end); err != nil {
		return tokens, words, err
	}
	words = file.appendWords(words[:0], start, end)
	words[0] = true
	return tokens, words, nil
}

// Tokens returns how many tokens sample i has, both sentences of a pair together, without reading them.
func (s *Samples) Tokens(i int64) (int, error) {
	_, length, err := s.entry(i)
	return int(length), err
}

// longest is the most tokens that a sample may have.
func (s *Samples) longest() int64 {
	if s.unit == Pair {
		return 2 * s.max
	}
	return s.max
}

// locate returns where sample i lies: length tokens from start on in a shard, which the caller releases.
func (s *Samples) locate(i int64) (file *shardFile, start, length int64, err error) {
	if start, length, err = s.entry(i); err != nil {
		return nil, 0, 0, err
	}
	shard := sort.Search(len(s.first)-1, func(k int) bool { return s.first[k+1] > i })
	if file, err = s.corpus.shard(shard); err != nil {
		return nil, 0, 0, err
	}
	most := int64(file.h.tokens)
	if s.group != nil {
		most += int64(file.h.documents) // a separator each
	}
	if start >= int64(file.h.tokens) || start+length > most {
		file.release()
		return nil, 0, 0, s.beyond(i, start, length, file)
	}
	return file, start, length, nil
}

func (s *Samples) beyond(i, start, length int64, file *shardFile) error {
	return fmt.Errorf("shard: %s: sample %d is %d tokens from %d on, in a shard of %d; %s", s.path, i, length, start, file.h.tokens, hintDamaged)
}

// entry reads the entry of sample i.
func (s *Samples) entry(i int64) (start, length int64, err error) {
	if i < 0 || i >= s.Len() {
		panic(fmt.Sprintf("shard: sample %d of %d", i, s.Len()))
	}
	if s.data == nil {
		return 0, 0, ErrClosed
	}
	defer faultError(s.path, debug.SetPanicOnFault(true), &err)
	entry := s.data[sampleHeaderBytes+i*sampleEntryBytes:]
	start, length = int64(le.Uint32(entry)), int64(le.Uint32(entry[4:]))
	if length < 1 || length > s.longest() {
		err = fmt.Errorf("shard: %s: sample %d is %d tokens from %d on, of at most %d; %s", s.path, i, length, start, s.longest(), hintDamaged)
	}
	return start, length, err
}

// Origin is where a sample comes from.
type Origin struct {
	Path     string // of the source
	Offset   int64  // of the document's first byte in the source, decompressed
	Line     int64  // of its first line there, from 1; in Parquet its row
	Bytes    int64  // of the document in the source
	Document int64  // number of the document in the corpus
	Token    int64  // of the sample's first token in the document
}

// Origin says which document sample i comes from.
func (s *Samples) Origin(i int64) (o Origin, err error) {
	file, start, _, err := s.locate(i)
	if err != nil {
		return Origin{}, err
	}
	defer file.release()
	defer faultError(file.path, debug.SetPanicOnFault(true), &err)
	d := file.documentAt(start)
	first, _ := file.document(d)
	before := int64(0)
	for _, entry := range s.corpus.index.Shards[:file.number] {
		before += entry.Documents
	}
	return Origin{
		Path:     s.corpus.index.Sources[file.docSource(d)].Path,
		Offset:   file.docOffset(d),
		Line:     file.docLine(d),
		Bytes:    file.docBytes(d),
		Document: before + d,
		Token:    start - first,
	}, nil
}

// Close unmaps the index. Nothing may be reading the Samples.
func (s *Samples) Close() error {
	if s.data == nil {
		return nil
	}
	data := s.data
	s.data = nil
	return unix.Munmap(data)
}
