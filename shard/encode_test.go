package shard

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// slowFirst takes longer over the batches that come first, so that later ones overtake
// them.
type slowFirst struct {
	testEncoder
	calls *atomic.Int64
	fail  string // a text that cannot be encoded
}

func (e slowFirst) Encode(texts []string) ([]Encoding, error) {
	time.Sleep(time.Duration(max(0, 6-e.calls.Add(1))) * time.Millisecond)
	for _, text := range texts {
		if text == e.fail {
			return nil, errors.New("cannot encode that")
		}
	}
	return e.testEncoder.Encode(texts)
}

// runPipeline sends n documents of a batch's size each through a pipeline, and returns
// those that came out.
func runPipeline(ctx context.Context, n int, encoder Encoder, emit func(document) error) error {
	p := pipeline{
		encoder: encoder,
		workers: 3,
		limit:   8 * batchBytes,
		cut:     func(text string) []string { return strings.Split(text, "\n") },
		read: func(yield func(document) error) error {
			for i := range n {
				doc := document{path: "x.txt", offset: int64(i), bytes: batchBytes, text: fmt.Sprintf("doc\n%d", i)}
				if err := yield(doc); err != nil {
					return err
				}
			}
			return nil
		},
		emit: func(doc document, encodings []Encoding) error {
			if len(encodings) != 2 {
				return fmt.Errorf("%d sentences", len(encodings))
			}
			return emit(doc)
		},
	}
	return p.run(ctx)
}

func TestPipelineKeepsOrder(t *testing.T) {
	next := int64(0)
	err := runPipeline(context.Background(), 40, slowFirst{testEncoder: testEncoder{vocab: 100}, calls: new(atomic.Int64)}, func(doc document) error {
		if doc.offset != next {
			return fmt.Errorf("document %d came, not %d", doc.offset, next)
		}
		next++
		return nil
	})
	if err != nil || next != 40 {
		t.Errorf("%d documents, %v", next, err)
	}
}

func TestPipelineStops(t *testing.T) {
	encoder := slowFirst{testEncoder: testEncoder{vocab: 100}, calls: new(atomic.Int64), fail: "17"}
	count := 0
	err := runPipeline(context.Background(), 1000, encoder, func(document) error { count++; return nil })
	wantError(t, err, "x.txt", "byte 17", "cannot encode that")
	if count != 17 {
		t.Errorf("%d documents came out before the one that failed, 17", count)
	}
	err = runPipeline(context.Background(), 1000, testEncoder{vocab: 100}, func(doc document) error {
		if doc.offset == 5 {
			return errors.New("disk full")
		}
		return nil
	})
	wantError(t, err, "x.txt", "disk full")
	ctx, cancel := context.WithCancel(context.Background())
	err = runPipeline(ctx, 1000, testEncoder{vocab: 100}, func(document) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestWrongEncodings(t *testing.T) {
	good := Encoding{IDs: []uint32{1}, WordStart: []bool{true}}
	for want, encodings := range map[string][]Encoding{
		"1 encodings for 2":     {good},
		"0 word marks":          {good, {IDs: []uint32{1}}},
		"beyond its vocabulary": {good, {IDs: []uint32{9}, WordStart: []bool{true}}},
	} {
		wantError(t, checkEncodings(encodings, 2, 9), want)
	}
}
