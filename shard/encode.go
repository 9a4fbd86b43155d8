package shard

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
)

// Encoder turns texts into tokens, without special tokens. Its methods are called
// by several goroutines at once.
type Encoder interface {
	// Encode returns one Encoding a text, in order. The caller owns the result.
	Encode(texts []string) ([]Encoding, error)
	// Digest names the tokenizer: other token ids, another digest.
	Digest() string
	// VocabSize is greater than every id that Encode returns.
	VocabSize() int
}

// Encoding is one encoded text.
type Encoding struct {
	IDs       []uint32
	WordStart []bool // as long as IDs: whether a token starts a word
}

// batchBytes is how much text one Encode call is given: enough to make the call's
// own cost vanish, little enough to share the work evenly.
const batchBytes = 128 << 10

// batch is a run of consecutive documents on its way through a worker.
type batch struct {
	docs      []document
	counts    []int // sentences a document
	encodings []Encoding
	err       error
	done      chan struct{} // closed when encodings or err is set
}

// pipeline reads documents, encodes them on several goroutines and hands them on in
// their order. At most 2 x workers batches are under way, which bounds its memory.
type pipeline struct {
	encoder Encoder
	workers int
	cut     func(text string) []string
	read    func(yield func(document) error) error // calls yield for every document
	emit    func(doc document, encodings []Encoding) error
}

// run returns the first failure in the order of the documents, after every goroutine
// that it started has ended.
func (p *pipeline) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()

	ordered := make(chan *batch, 2*p.workers)
	work := make(chan *batch, 2*p.workers)
	var readErr error
	group.Go(func() {
		defer close(ordered)
		defer close(work)
		readErr = p.readBatches(ctx, ordered, work)
	})
	for range p.workers {
		group.Go(func() {
			for b := range work {
				b.encode(p.encoder, p.cut)
			}
		})
	}
	for b := range ordered {
		<-b.done
		if err := p.emitBatch(ctx, b); err != nil {
			return err
		}
	}
	// ordered is closed: the reader has ended and readErr is settled.
	if readErr == nil {
		readErr = ctx.Err()
	}
	return readErr
}

func (p *pipeline) readBatches(ctx context.Context, ordered, work chan<- *batch) error {
	var (
		b    *batch
		size int
	)
	send := func() error {
		if b == nil {
			return nil
		}
		// Into work first: whatever is in ordered will be encoded, even after a
		// cancellation, so waiting for done never hangs.
		select {
		case work <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case ordered <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
		b, size = nil, 0
		return nil
	}
	err := p.read(func(doc document) error {
		if b == nil {
			b = &batch{done: make(chan struct{})}
		}
		b.docs = append(b.docs, doc)
		if size += int(doc.bytes); size < batchBytes {
			return nil
		}
		return send()
	})
	if err != nil {
		return err
	}
	return send()
}

// encode cuts the documents into sentences and encodes them; the texts are let go.
func (b *batch) encode(encoder Encoder, cut func(string) []string) {
	defer close(b.done)
	var texts []string
	for i := range b.docs {
		sum := sha256.Sum256([]byte(b.docs[i].text))
		b.docs[i].hash = [hashBytes]byte(sum[:])
		parts := cut(b.docs[i].text)
		b.docs[i].text = ""
		texts = append(texts, parts...)
		b.counts = append(b.counts, len(parts))
	}
	if len(texts) == 0 {
		return
	}
	b.encodings, b.err = encoder.Encode(texts)
	if b.err == nil {
		b.err = checkEncodings(b.encodings, len(texts), encoder.VocabSize())
	}
}

// checkEncodings keeps a wrong Encoder from writing wrong shards.
func checkEncodings(encodings []Encoding, texts, vocab int) error {
	if len(encodings) != texts {
		return fmt.Errorf("tokenizer returned %d encodings for %d texts", len(encodings), texts)
	}
	for _, e := range encodings {
		if len(e.WordStart) != len(e.IDs) {
			return fmt.Errorf("tokenizer returned %d word marks for %d tokens", len(e.WordStart), len(e.IDs))
		}
		for _, id := range e.IDs {
			if int64(id) >= int64(vocab) {
				return fmt.Errorf("tokenizer returned token id %d, beyond its vocabulary of %d", id, vocab)
			}
		}
	}
	return nil
}

func (p *pipeline) emitBatch(ctx context.Context, b *batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.err != nil {
		return fmt.Errorf("shard: encode %s, from byte %d on: %w", b.docs[0].path, b.docs[0].offset, b.err)
	}
	encodings := b.encodings
	for i, doc := range b.docs {
		if err := p.emit(doc, encodings[:b.counts[i]]); err != nil {
			return fmt.Errorf("shard: %s: %w", doc.path, err)
		}
		encodings = encodings[b.counts[i]:]
	}
	return nil
}

// readSource hands the documents of one source to yield.
func readSource(s documentStream, yield func(document) error) error {
	for {
		doc, err := s.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := yield(doc); err != nil {
			return err
		}
	}
}
