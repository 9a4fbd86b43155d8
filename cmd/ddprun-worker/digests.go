package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/internal/hf"
)

// digests are what nodes of one run compare, so that a node with another model or other text is refused before it takes part. `check` prints them.
type digests struct {
	Model     string `json:"model"`     // config.json, and the weights as far as that is cheap
	Tokenizer string `json:"tokenizer"` // what decides about token ids
	Shards    string `json:"shards"`    // the samples of the training and of all evaluation sets
	Program   string `json:"program"`   // version of this program and of libtorch
}

func digestsOf(c *config.Config, t *text, data *corpora) (digests, error) {
	model, err := modelDigest(c.Model)
	samples := sha256.New()
	fmt.Fprintln(samples, data.train.Digest())
	for _, set := range data.eval {
		fmt.Fprintln(samples, set.Name, set.Samples.Digest())
	}
	return digests{Model: model, Tokenizer: t.digest, Shards: hex.EncodeToString(samples.Sum(nil)), Program: version()}, err
}

// edgeBytes are read of a file of weights at either end: safetensors' header and more. Reading all of it would take as long as loading it.
const edgeBytes = 1 << 20

// modelDigest tells models apart by config.json and by the names, sizes, beginnings and ends of the files of weights.
func modelDigest(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	for _, entry := range entries { // sorted by name
		name := entry.Name()
		if name != "config.json" && !hf.LikeWeights(name) {
			continue
		}
		if err := addEdges(hash, filepath.Join(dir, name)); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// addEdges adds a file's name, size, beginning and end.
func addEdges(hash io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	fmt.Fprintln(hash, filepath.Base(path), info.Size())
	for _, at := range slices.Compact([]int64{0, max(0, info.Size()-edgeBytes)}) {
		if _, err := io.Copy(hash, io.NewSectionReader(f, at, edgeBytes)); err != nil {
			return err
		}
	}
	return nil
}
