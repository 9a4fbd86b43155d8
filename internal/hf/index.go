package hf

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// readIndex reads the weight_map of a model.safetensors.index.json or
// pytorch_model.bin.index.json: from tensor to the file that holds it.
func readIndex(path string) (map[string]string, error) {
	data, err := readFile(path, maxIndexBytes)
	if err != nil {
		return nil, err
	}
	shards, err := parseIndex(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return shards, nil
}

func parseIndex(data []byte) (map[string]string, error) {
	index, err := parseObject(data)
	if err != nil {
		return nil, err
	}
	raw, ok := index.values["weight_map"]
	if !ok {
		return nil, errors.New("has no weight_map, which says which file holds which tensor")
	}
	entries, err := parseObject(raw)
	if err != nil {
		return nil, fmt.Errorf("weight_map: %w", err)
	}
	if len(entries.keys) == 0 {
		return nil, errors.New("weight_map is empty")
	}
	shards := make(map[string]string, len(entries.keys))
	for _, tensor := range entries.keys {
		var file string
		if err := json.Unmarshal(entries.values[tensor], &file); err != nil {
			return nil, fmt.Errorf("weight_map: the file of tensor %s is not a string", tensor)
		}
		if !filepath.IsLocal(file) || file == "." || strings.ContainsAny(file, "\x00\\") {
			return nil, fmt.Errorf("weight_map: tensor %s lies in %.200q, which is outside the model's directory", tensor, file)
		}
		shards[tensor] = file
	}
	return shards, nil
}

// resolveShards gives each file of an index in dir its path with links resolved,
// and refuses one whose links lead out of the model. A snapshot of the Hub's cache
// is the exception: its files are links to the blobs beside the snapshots.
func resolveShards(indexPath string, shards map[string]string) (map[string]string, error) {
	dir := filepath.Dir(indexPath)
	roots, err := trustedRoots(dir)
	if err != nil {
		return nil, err
	}
	paths := map[string]string{}
	for _, tensor := range slices.Sorted(maps.Keys(shards)) {
		file := shards[tensor]
		if paths[file] != "" {
			continue
		}
		path := filepath.Join(dir, file)
		resolved, err := realPath(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s: tensor %s lies in %s, and that file is missing", indexPath, tensor, file)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: tensor %s: %w", indexPath, tensor, err)
		}
		if !within(roots, resolved) {
			return nil, fmt.Errorf("%s: tensor %s lies in %s, a link that leads outside the model's directory, to %s",
				indexPath, tensor, file, resolved)
		}
		paths[file] = path
	}
	return paths, nil
}

// trustedRoots is the directories in which files of the model in dir may lie once
// links are resolved: dir itself and, where dir is a snapshot of the Hub's cache
// (models--org--name/snapshots/<commit>), that model's blobs.
func trustedRoots(dir string) ([]string, error) {
	real, err := realPath(dir)
	if err != nil {
		return nil, err
	}
	roots := []string{real}
	if filepath.Base(filepath.Dir(real)) == "snapshots" {
		blobs := filepath.Join(real, "..", "..", "blobs")
		if info, err := os.Lstat(blobs); err == nil && info.IsDir() { // Lstat: a link is no cache's blobs
			roots = append(roots, blobs)
		}
	}
	return roots, nil
}

// realPath is path absolute and with every link resolved.
func realPath(path string) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(absolute)
}

// within says whether a real path is one of the roots or below one.
func within(roots []string, real string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		rel, err := filepath.Rel(root, real)
		return err == nil && filepath.IsLocal(rel)
	})
}
