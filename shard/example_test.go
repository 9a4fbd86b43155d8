package shard_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ddprun/ddprun/shard"
)

// bytesEncoder stands in for a tokenizer: a token a byte.
type bytesEncoder struct{}

func (bytesEncoder) Digest() string { return "bytes" }
func (bytesEncoder) VocabSize() int { return 256 }
func (bytesEncoder) Encode(texts []string) ([]shard.Encoding, error) {
	encodings := make([]shard.Encoding, len(texts))
	for i, text := range texts {
		for at, c := range []byte(text) {
			encodings[i].IDs = append(encodings[i].IDs, uint32(c))
			encodings[i].WordStart = append(encodings[i].WordStart, at == 0 || text[at-1] == ' ')
		}
	}
	return encodings, nil
}

// A corpus on its way from a text file to the micro-batches of the first epoch.
func Example() {
	if err := run(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 3 documents, 6 samples
	// step 0, lane 0: "four fiv" "ght nine"
	// step 0, lane 1: " ten" "e six"
	// step 1, lane 0: "one\ntwo"
	// step 1, lane 1: "seven ei"
}

func run() error {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	text := filepath.Join(dir, "text.txt")
	if err := os.WriteFile(text, []byte("one\ntwo\n\nfour five six\n\nseven eight nine ten\n"), 0o644); err != nil {
		return err
	}
	ctx := context.Background()
	report, err := shard.Prepare(ctx, shard.PrepareConfig{Dir: filepath.Join(dir, "cache"), Paths: []string{text},
		TextUnit: shard.TextParagraph, SentenceUnit: shard.SentenceNone, Encoder: bytesEncoder{}})
	if err != nil {
		return err
	}
	corpus, err := shard.Open(report.Dir, shard.OpenConfig{})
	if err != nil {
		return err
	}
	defer corpus.Close()
	samples, err := corpus.Samples(ctx, shard.SampleConfig{Unit: shard.Window, MaxTokens: 8})
	if err != nil {
		return err
	}
	defer samples.Close()
	fmt.Printf("%d documents, %d samples\n", report.Documents, samples.Len())
	return printEpoch(samples)
}

func printEpoch(samples *shard.Samples) error {
	const lanes, batch = 2, 2
	order, err := shard.NewOrder(shard.OrderConfig{Samples: samples.Len(), Lanes: lanes, BatchSize: batch, Seed: 1, Shuffle: true})
	if err != nil {
		return err
	}
	var numbers []int64
	var sample shard.Sample
	for step := range order.StepsPerEpoch() {
		for lane := range lanes {
			fmt.Printf("step %d, lane %d:", step, lane)
			numbers = order.MicroBatch(0, step, lane, numbers)
			for _, number := range numbers {
				if err := samples.At(number, &sample); err != nil {
					return err
				}
				fmt.Printf(" %q", text(sample.Tokens))
			}
			fmt.Println()
		}
	}
	return nil
}

func text(tokens []uint32) string {
	b := make([]byte, len(tokens))
	for i, token := range tokens {
		b[i] = byte(token)
	}
	return string(b)
}
