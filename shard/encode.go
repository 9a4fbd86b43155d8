package shard

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"
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

// documentBytes is about what a document takes beside its text.
const documentBytes = 96

// batch is a run of consecutive documents on its way through a worker.
type batch struct {
	docs      []document
	bytes     int64
	counts    []int // sentences a document
	encodings []Encoding
	err       error
	done      chan struct{} // closed when encodings or err is set
}

// pipeline reads documents, encodes them on several goroutines and hands them on in
// their order. At most limit bytes of text are under way, or one document that is larger, which bounds its memory.
type pipeline struct {
	encoder Encoder
	workers int
	limit   int64
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

	ordered := make(chan *batch, 4*p.workers)
	work := make(chan *batch, 4*p.workers)
	room := semaphore.NewWeighted(p.limit)
	var readErr error
	group.Go(func() {
		defer close(ordered)
		defer close(work)
		readErr = p.readBatches(ctx, room, ordered, work)
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
		room.Release(min(b.bytes, p.limit))
	}
	// ordered is closed: the reader has ended and readErr is settled.
	if readErr == nil {
		readErr = ctx.Err()
	}
	return readErr
}

func (p *pipeline) readBatches(ctx context.Context, room *semaphore.Weighted, ordered, work chan<- *batch) error {
	var b *batch
	send := func() error {
		if b == nil {
			return nil
		}
		if err := room.Acquire(ctx, min(b.bytes, p.limit)); err != nil {
			return err
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
		b = nil
		return nil
	}
	err := p.read(func(doc document) error {
		if b == nil {
			b = &batch{done: make(chan struct{})}
		}
		b.docs = append(b.docs, doc)
		// A document's own place in memory counts too, so that many short ones are bounded as well.
		if b.bytes += max(doc.bytes, int64(len(doc.text))) + documentBytes; b.bytes < batchBytes {
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
		doc := &b.docs[i]
		sum := sha256.Sum256([]byte(doc.text))
		doc.hash = [hashBytes]byte(sum[:])
		parts := cut(doc.text)
		doc.text = ""
		texts = append(texts, parts...)
		b.counts = append(b.counts, len(parts))
	}
	if len(texts) == 0 {
		return
	}
	if b.encodings, b.err = encodeAll(encoder, texts); b.err == nil {
		return
	}
	// Which document was it?
	for i, n := range b.counts {
		if _, err := encodeAll(encoder, texts[:n]); err != nil {
			b.fail(i, err)
			return
		}
		texts = texts[n:]
	}
	b.fail(0, b.err)
}

func (b *batch) fail(i int, err error) {
	doc := b.docs[i]
	b.err = fmt.Errorf("shard: encode %s, the document at byte %d, line %d: %w", doc.path, doc.offset, doc.line, err)
}

func encodeAll(encoder Encoder, texts []string) ([]Encoding, error) {
	encodings, err := encoder.Encode(texts)
	if err == nil {
		err = checkEncodings(encodings, len(texts), encoder.VocabSize())
	}
	return encodings, err
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
		return b.err
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
