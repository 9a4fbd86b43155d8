// Command demo prints what "make demo" has achieved, from the files that scripts/demo.sh has left: the loss on held-out text before
// and after, masked words that only the trained model gets right, and what to do next.
//
//	go run ./tools/demo runs/demo
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: demo DIRECTORY (scripts/demo.sh calls it)")
		os.Exit(2)
	}
	if err := show(os.Args[1], os.Stdout, isTerminal(os.Stdout)); err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// show reads the demo's directory and prints its result.
func show(dir string, out io.Writer, colour bool) error {
	run := filepath.Join(dir, "run")
	evals, err := readEvaluations(filepath.Join(run, "metrics.jsonl"))
	if err != nil {
		return err
	}
	before, err := readLines[prediction](filepath.Join(dir, "before.jsonl"))
	if err != nil {
		return err
	}
	after, err := readLines[prediction](filepath.Join(dir, "after.jsonl"))
	if err != nil {
		return err
	}
	words, err := compare(before, after)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	checkpoint, err := newestCheckpoint(run)
	if err != nil {
		return err
	}
	r := report{out: out, colour: colour, run: run, checkpoint: checkpoint}
	r.print(evals[0], evals[len(evals)-1], words)
	return nil
}

// evaluation is an evaluation's record in metrics.jsonl.
type evaluation struct {
	Step       int64    `json:"step"`
	Epoch      float64  `json:"epoch"`
	Loss       *float64 `json:"eval_loss"`
	Perplexity *float64 `json:"eval_perplexity"`
}

// readEvaluations returns the evaluations of a run, at least two.
func readEvaluations(path string) ([]evaluation, error) {
	all, err := readLines[evaluation](path)
	if err != nil {
		return nil, err
	}
	var found []evaluation
	for _, e := range all {
		if e.Loss != nil && e.Perplexity != nil {
			found = append(found, e)
		}
	}
	if len(found) < 2 {
		return nil, fmt.Errorf("%s: has %d evaluations; want one before the training and one after", path, len(found))
	}
	return found, nil
}

// readLines reads a file of JSON objects, one a line.
func readLines[T any](path string) ([]T, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []T
	decoder := json.NewDecoder(bufio.NewReader(f))
	for {
		var one T
		switch err := decoder.Decode(&one); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("%s: record %d: %w", path, len(all)+1, err)
		}
		all = append(all, one)
	}
}

// newestCheckpoint returns the checkpoint of the highest step in a run's directory.
func newestCheckpoint(run string) (string, error) {
	paths, err := filepath.Glob(filepath.Join(run, "checkpoint-*"))
	if err != nil {
		return "", err
	}
	newest, highest := "", int64(-1)
	for _, path := range paths {
		var step int64
		if _, err := fmt.Sscanf(filepath.Base(path), "checkpoint-%d", &step); err == nil && step > highest {
			newest, highest = path, step
		}
	}
	if newest == "" {
		return "", fmt.Errorf("%s: holds no checkpoint", run)
	}
	return newest, nil
}
