package shard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// defaultPartBytes is the least size of a part's files unless it is the last one: enough to make the end of a part cheap, little
// enough to lose nothing that matters when it is begun again.
const defaultPartBytes = 64 << 20

// part is a run of consecutive sources: the unit of work that is done once. Its shards depend on nothing outside it, so who makes it
// does not matter.
type part struct {
	number     int
	start, end int   // of its sources in the index
	bytes      int64 // of its sources as they lie
}

// cutParts gathers sources into parts of at least least bytes; a source as large as that is a part by itself.
func cutParts(sources []Source, least int64) []part {
	var parts []part
	p := part{}
	cut := func(end int) {
		if end > p.start {
			p.number, p.end = len(parts), end
			parts = append(parts, p)
		}
		p = part{start: end}
	}
	for i, s := range sources {
		if s.Bytes >= least {
			cut(i)
		}
		p.bytes += s.Bytes
		if p.bytes >= least {
			cut(i + 1)
		}
	}
	cut(len(sources))
	return parts
}

// manifest is part-<n>.json: a part that is done.
type manifest struct {
	Format    string       `json:"format"`
	Version   int          `json:"version"`
	Digest    string       `json:"digest"` // of the corpus
	Part      int          `json:"part"`
	Counts    Counts       `json:"counts"`
	Skipped   Skipped      `json:"skipped"`
	Documents []int64      `json:"documents"` // of each of the part's sources
	Shards    []shardEntry `json:"shards"`
}

const manifestFormat = "ddprun-part"

func manifestName(part int) string { return fmt.Sprintf("part-%05d.json", part) }

// readManifest returns nil for a part that is not done: no manifest, one of something else, or shards that are not as it says.
func readManifest(dir string, x *index, p part) (*manifest, error) {
	data, err := os.ReadFile(filepath.Join(dir, manifestName(p.number)))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("shard: %w", err)
	}
	m := new(manifest)
	if json.Unmarshal(data, m) != nil || m.Format != manifestFormat || m.Version != Version || m.Digest != x.Digest ||
		m.Part != p.number || len(m.Documents) != p.end-p.start {
		return nil, nil
	}
	for i, s := range m.Shards {
		if s.File != shardName(p.number, i) || s.Part != p.number || s.Number != i {
			return nil, nil
		}
		if info, err := os.Stat(filepath.Join(dir, s.File)); err != nil || info.Size() != s.Bytes {
			return nil, nil
		}
	}
	return m, nil
}

// partMaker makes parts, one after another.
type partMaker struct {
	cfg   *PrepareConfig
	index *index
	dir   string
	w     *writer
	meter *meter
}

func newPartMaker(cfg *PrepareConfig, x *index, dir string, m *meter) *partMaker {
	digest := x.digest()
	return &partMaker{cfg: cfg, index: x, dir: dir, meter: m,
		w: &writer{host: cfg.host, dir: dir, corpus: [16]byte(digest[:16]), vocabSize: uint32(x.VocabSize), limit: cfg.ShardBytes}}
}

// make writes a part's shards, then its manifest.
func (k *partMaker) make(ctx context.Context, p part) (*manifest, error) {
	m := &manifest{Format: manifestFormat, Version: Version, Digest: k.index.Digest, Part: p.number, Documents: make([]int64, p.end-p.start)}
	k.w.begin(p.number, p.bytes)
	var tokens []uint32
	line := pipeline{
		encoder: k.cfg.Encoder,
		workers: k.cfg.Workers,
		limit:   k.cfg.underWay(),
		cut:     func(text string) []string { return sentences(text, k.cfg.SentenceUnit, k.cfg.Segment) },
		read:    func(yield func(document) error) error { return k.read(ctx, p, m, yield) },
		emit: func(doc document, encodings []Encoding) error {
			n := 0
			for _, e := range encodings {
				n += len(e.IDs)
			}
			if n == 0 {
				m.Counts.EmptyDocuments++
				return nil
			}
			if k.cfg.Keep != nil {
				if tokens = appendIDs(tokens[:0], encodings); !k.cfg.Keep(tokens) {
					m.Counts.DroppedDocuments++
					return nil
				}
			}
			m.Documents[doc.source-p.start]++
			k.meter.document(n)
			return k.w.add(doc, encodings)
		},
	}
	if err := line.run(ctx); err != nil {
		return nil, err
	}
	if err := k.w.flush(); err != nil {
		return nil, fmt.Errorf("shard: %w", err)
	}
	m.Shards = k.w.shards
	m.Counts.addShards(m.Shards)
	err := writeFileAs(k.cfg.host, filepath.Join(k.dir, manifestName(p.number)), func(f *os.File) error { return json.NewEncoder(f).Encode(m) })
	if err != nil {
		return nil, fmt.Errorf("shard: %w", err)
	}
	return m, nil
}

func appendIDs(dst []uint32, encodings []Encoding) []uint32 {
	for _, e := range encodings {
		dst = append(dst, e.IDs...)
	}
	return dst
}

// read hands on the documents of a part's sources, in order.
func (k *partMaker) read(ctx context.Context, p part, m *manifest, yield func(document) error) error {
	for i := p.start; i < p.end; i++ {
		if err := k.readSource(ctx, i, m, yield); err != nil {
			return err
		}
	}
	return nil
}

// changedError is that of a source that is not any more what the digest saw.
type changedError struct {
	path  string
	cause error // or nil: its content is another
}

func (e *changedError) Error() string {
	if e.cause != nil {
		return e.cause.Error()
	}
	return fmt.Sprintf("shard: %s changed while it was being read; run again once it is complete", e.path)
}

func (e *changedError) Unwrap() error { return e.cause }

// vanished is the error of a source that was listed and is not there any more.
func vanished(path string, err error) error {
	if bad := (*BadRecord)(nil); !errors.As(err, &bad) {
		err = &BadRecord{Path: path, Offset: -1, Reason: ReasonVanished, Hint: "it was there when data was listed; run again", Err: err}
	}
	return &changedError{path, err}
}

// readSource hands on the documents of source i, and checks that it is still the one that the digest saw.
func (k *partMaker) readSource(ctx context.Context, i int, m *manifest, yield func(document) error) (err error) {
	source := k.index.Sources[i]
	file, err := k.cfg.open(ctx, source.Path)
	var bad *BadRecord
	if errors.As(err, &bad) {
		return &changedError{source.Path, err}
	}
	if err != nil {
		return err
	}
	r := newDocReader(meteredFile{ctx, file, k.meter}, source.Path, i, k.cfg.readOptions())
	defer func() {
		if closeErr := r.Close(); err == nil {
			err = closeErr
		}
	}()
	err = k.readDocuments(r, m, yield)
	m.Counts.Replaced += r.replacements()
	var other interface{ SourceChanged() bool }
	if errors.As(err, &other) && other.SourceChanged() {
		return &changedError{source.Path, err}
	}
	if err != nil {
		return err
	}
	if k.cfg.isRemote(source.Path) {
		return nil // what was read is the version that the digest saw, or reading has failed
	}
	sum, err := r.sha256()
	if err == nil && sum != source.SHA256 {
		err = &changedError{path: source.Path}
	}
	return err
}

// readDocuments returns the first bad record where it is not to be skipped.
func (k *partMaker) readDocuments(r *docReader, m *manifest, yield func(document) error) error {
	for {
		doc, err := r.next()
		if err == io.EOF {
			return nil
		}
		if bad := (*BadRecord)(nil); errors.As(err, &bad) {
			if k.cfg.OnError != OnErrorSkip || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			m.Skipped.add(bad)
			if !bad.GoesOn {
				return nil
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := yield(doc); err != nil {
			return err
		}
	}
}

// underWay bounds the text that is on its way from the sources to the shard.
func (cfg *PrepareConfig) underWay() int64 { return int64(cfg.Workers) * 8 * batchBytes }

func (cfg *PrepareConfig) readOptions() readOptions {
	return readOptions{textUnit: cfg.TextUnit, textField: cfg.TextField, encodingErrors: cfg.EncodingErrors, maxDocumentBytes: cfg.MaxDocumentBytes}
}

// collect puts the parts together: whoever does it gets the same index.
func (x *index) collect(parts []part, done []*manifest) error {
	for i, m := range done {
		for j, n := range m.Documents {
			x.Sources[parts[i].start+j].Documents = n
		}
		x.Shards = append(x.Shards, m.Shards...)
		x.Counts.add(m.Counts)
		x.Skipped.merge(m.Skipped)
	}
	if x.Counts.Documents > 0 {
		return nil
	}
	var note bytes.Buffer
	if n := x.Skipped.Total(); n > 0 {
		fmt.Fprintf(&note, ", %d were bad (%v)", n, x.Skipped.Examples[0])
	}
	return fmt.Errorf("shard: the corpus is empty: %d files (the first is %s) hold no text to train on; "+
		"%d documents had no token, %d nothing to train on%s", len(x.Sources), x.Sources[0].Path,
		x.Counts.EmptyDocuments, x.Counts.DroppedDocuments, note.String())
}
