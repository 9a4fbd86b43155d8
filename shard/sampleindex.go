package shard

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

const (
	sampleMagic       = "ddpsampl"
	sampleHeaderBytes = 104
	sampleEntryBytes  = 8 // start and length, 32 bits each
	sampleCRCFrom     = 16
)

// sampleHeader is the start of a sample index, as it lies in the file. See
// docs/shard-format.md.
type sampleHeader []byte

func (h sampleHeader) digest() []byte { return h[16:48] }

func newSampleHeader(digest [sha256.Size]byte, shards int, r SampleReport) sampleHeader {
	h := make(sampleHeader, sampleHeaderBytes)
	copy(h, sampleMagic)
	le.PutUint32(h[8:], Version)
	copy(h[16:], digest[:])
	for i, v := range []int64{r.Samples, int64(shards), r.Tokens, r.LeftOut, r.LeftOutTokens, r.Cut, r.CutTokens} {
		le.PutUint64(h[48+8*i:], uint64(v))
	}
	return h
}

func (h sampleHeader) counts() (shards int64, r SampleReport) {
	v := func(i int) int64 { return int64(le.Uint64(h[48+8*i:])) }
	return v(1), SampleReport{Samples: v(0), Tokens: v(2), LeftOut: v(3), LeftOutTokens: v(4), Cut: v(5), CutTokens: v(6)}
}

// digest names the samples that cfg cuts out of the corpus with that digest.
func (cfg *SampleConfig) digest(corpus string) [sha256.Size]byte {
	h := sha256.New()
	// Encoding strings and numbers into a hash cannot fail.
	parts := []any{"ddprun samples", Version, corpus, cfg.Unit, cfg.MaxTokens, cfg.Long, cfg.KeepDigest}
	if cfg.DocumentsDigest != "" {
		parts = append(parts, cfg.DocumentsDigest)
	}
	if cfg.Group {
		parts = append(parts, "group", cfg.Separator)
	}
	_ = json.NewEncoder(h).Encode(parts)
	return [sha256.Size]byte(h.Sum(nil))
}

func samplesPath(dir string, digest [sha256.Size]byte) string {
	return filepath.Join(dir, fmt.Sprintf("samples-%x.idx", digest[:16]))
}

// openSamples maps a sample index and checks all of it but the entries' ranges, which
// At does.
func openSamples(c *Corpus, path string, digest [sha256.Size]byte, cfg *SampleConfig) (*Samples, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("shard: %w", err)
	}
	if info.Size() < sampleHeaderBytes {
		return nil, fmt.Errorf("shard: %s has %d bytes, too few for a sample index", path, info.Size())
	}
	data, _, err := mapFile(path, info.Size())
	if err != nil {
		return nil, err
	}
	s := &Samples{corpus: c, path: path, data: data, unit: cfg.Unit, max: int64(cfg.MaxTokens), group: newGroup(c, cfg),
		digest: fmt.Sprintf("%x", cfg.digest(c.ContentDigest()))}
	if err := s.parse(digest); err != nil {
		_ = unix.Munmap(data)
		return nil, fmt.Errorf("shard: %s %w", path, err)
	}
	return s, nil
}

func (s *Samples) parse(digest [sha256.Size]byte) (err error) {
	defer faultError(s.path, debug.SetPanicOnFault(true), &err)
	h := sampleHeader(s.data)
	if string(h[:8]) != sampleMagic {
		return fmt.Errorf("is no sample index (magic %q)", h[:8])
	}
	if v := le.Uint32(h[8:]); v != Version {
		return fmt.Errorf("has format version %d; this program reads version %d", v, Version)
	}
	if [sha256.Size]byte(h.digest()) != digest {
		return fmt.Errorf("is the index of other samples")
	}
	shards, report := h.counts()
	if shards != int64(len(s.corpus.shards)) || report.Samples < 1 {
		return fmt.Errorf("counts %d samples in %d shards; the corpus has %d shards", report.Samples, shards, len(s.corpus.shards))
	}
	table := (int64(len(s.data)) - sampleHeaderBytes - 8*(shards+1))
	if table < 0 || table%sampleEntryBytes != 0 || table/sampleEntryBytes != report.Samples {
		return fmt.Errorf("has %d bytes, and counts %d samples in %d shards", len(s.data), report.Samples, shards)
	}
	if sum := crc32.Checksum(s.data[sampleCRCFrom:], castagnoli); sum != le.Uint32(h[12:]) {
		return fmt.Errorf("has checksum %08x and should have %08x", sum, le.Uint32(h[12:]))
	}
	s.report = report
	return s.readFirst(s.data[sampleHeaderBytes+table:])
}

// readFirst reads the table of each shard's first sample.
func (s *Samples) readFirst(table []byte) error {
	previous := int64(0)
	for ; len(table) > 0; table = table[8:] {
		first := int64(le.Uint64(table))
		if first < previous {
			return fmt.Errorf("its table of shards goes backwards")
		}
		s.first = append(s.first, first)
		previous = first
	}
	if s.first[0] != 0 || previous != s.report.Samples {
		return fmt.Errorf("its table of shards reaches from %d to %d of %d samples", s.first[0], previous, s.report.Samples)
	}
	return nil
}

// sampleCutter cuts shards into samples and writes their entries.
type sampleCutter struct {
	cfg    *SampleConfig
	out    *bufio.Writer
	report SampleReport
	before int64    // documents of the corpus in earlier shards
	group  *group   // nil: windows are of one document
	tokens []uint32 // scratch
}

// buildSamples cuts the corpus and writes the index. The caller holds the lock.
func buildSamples(ctx context.Context, c *Corpus, path string, digest [sha256.Size]byte, cfg *SampleConfig) error {
	err := writeFileAtomic(path, func(f *os.File) error {
		cutter := &sampleCutter{cfg: cfg, group: newGroup(c, cfg), out: bufio.NewWriterSize(f, 1<<20)}
		if _, err := cutter.out.Write(make([]byte, sampleHeaderBytes)); err != nil {
			return err
		}
		first := []uint64{0}
		for i := range c.shards {
			if err := ctx.Err(); err != nil {
				return err
			}
			file, err := c.shard(i)
			if err != nil {
				return err
			}
			err = cutter.cut(file)
			file.letGo()
			file.release()
			if err != nil {
				return err
			}
			cutter.before += int64(file.h.documents)
			first = append(first, uint64(cutter.report.Samples))
		}
		r := cutter.report
		if r.Samples == 0 {
			return cfg.nothingLeft(r)
		}
		if _, err := cutter.out.Write(bytes64(first)); err != nil {
			return err
		}
		if err := cutter.out.Flush(); err != nil {
			return err
		}
		return finishSampleIndex(f, newSampleHeader(digest, len(c.shards), r))
	})
	if err != nil {
		return fmt.Errorf("shard: sample index %s: %w", path, err)
	}
	return nil
}

// finishSampleIndex puts the header before the entries, whose number is known only
// once they are written, and the checksum of both into it.
func finishSampleIndex(f *os.File, h sampleHeader) error {
	if _, err := f.WriteAt(h, 0); err != nil {
		return err
	}
	if _, err := f.Seek(sampleCRCFrom, io.SeekStart); err != nil {
		return err
	}
	crc := crc32.New(castagnoli)
	if _, err := io.Copy(crc, f); err != nil {
		return err
	}
	_, err := f.WriteAt(le.AppendUint32(nil, crc.Sum32()), 12)
	return err
}

// ErrNothingLeft is wrapped by the error for a corpus of which no sample is kept.
var ErrNothingLeft = errors.New("no sample is left")

// nothingLeft explains a corpus without a sample.
func (cfg *SampleConfig) nothingLeft(r SampleReport) error {
	if cfg.Documents != nil && cfg.Documents.Len() == 0 {
		return fmt.Errorf("%w of %d: all are too short, too long, duplicates or held out", ErrNoDocument, cfg.Documents.documents)
	}
	if cfg.Unit == Pair && r.LeftOut == 0 {
		return fmt.Errorf("no document has two sentences: set sentence_unit (line: one a line, auto: found from punctuation) so that " +
			"sentences are known, and text_unit so that a document is more than a sentence")
	}
	return fmt.Errorf("%w: none of %d %ss holds anything to train on", ErrNothingLeft, r.LeftOut, cfg.Unit)
}

func (k *sampleCutter) cut(file *shardFile) (err error) {
	defer faultError(file.path, debug.SetPanicOnFault(true), &err)
	if k.cfg.Unit == Pair {
		return k.cutPairs(file)
	}
	if k.group != nil {
		return k.cutGroups(file)
	}
	for d := range int64(file.h.documents) {
		if !k.counts(d) {
			continue
		}
		units, end, bounds := d, d+1, file.document
		if k.cfg.Unit == Sentence {
			units, end, bounds = int64(file.u32(file.l.documents, d)), int64(file.u32(file.l.documents, d+1)), file.sentence
		}
		for u := units; u < end; u++ {
			start, stop := bounds(u)
			if err := k.cutUnit(file, start, stop); err != nil {
				return err
			}
		}
	}
	return nil
}

// counts tells whether document d of the shard does.
func (k *sampleCutter) counts(d int64) bool {
	return k.cfg.Documents == nil || k.cfg.Documents.Has(k.before+d)
}

// cutUnit cuts the sentence or document of the tokens [start, end).
func (k *sampleCutter) cutUnit(file *shardFile, start, end int64) error {
	longest := int64(k.cfg.MaxTokens)
	if end-start > longest {
		k.report.Cut++
		if k.cfg.Long == LongTruncate {
			k.report.CutTokens += end - start - longest
			end = start + longest
		}
	}
	for ; start < end; start += longest {
		if err := k.add(file, start, min(longest, end-start)); err != nil {
			return err
		}
	}
	return nil
}

// add writes the entry of a sample, if the sample is to be kept.
func (k *sampleCutter) add(file *shardFile, start, length int64) error {
	keep, err := k.keeps(file, start, start+length)
	if err != nil {
		return err
	}
	return k.write(start, length, keep)
}

// keeps tells whether the tokens [start, end) hold anything to train on.
func (k *sampleCutter) keeps(file *shardFile, start, end int64) (_ bool, err error) {
	if k.cfg.Keep == nil {
		return true, nil
	}
	if k.tokens, err = file.appendTokens(k.tokens[:0], start, end); err != nil {
		return false, err
	}
	return k.cfg.Keep(k.tokens), nil
}

// write writes an entry, or counts what is left out.
func (k *sampleCutter) write(start, length int64, keep bool) error {
	if !keep {
		k.report.LeftOut++
		k.report.LeftOutTokens += length
		return nil
	}
	k.report.Samples++
	k.report.Tokens += length
	var entry [sampleEntryBytes]byte
	le.PutUint32(entry[:], uint32(start))
	le.PutUint32(entry[4:], uint32(length))
	_, err := k.out.Write(entry[:])
	return err
}
