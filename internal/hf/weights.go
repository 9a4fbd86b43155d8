package hf

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// The files of weights in the order in which transformers looks for them.
const (
	safetensorsFile  = "model.safetensors"
	safetensorsIndex = "model.safetensors.index.json"
	torchFile        = "pytorch_model.bin"
	torchIndex       = "pytorch_model.bin.index.json"
)

// LikeWeights tells whether a file has a name as weights have, whole, sharded or an index: one of a form that Open does not take too, so that it is not
// overlooked.
func LikeWeights(name string) bool {
	name = strings.TrimSuffix(name, ".index.json")
	return strings.HasSuffix(name, ".safetensors") || strings.HasPrefix(name, "pytorch_model")
}

// Weights is the tensors of a model by name, in one file or many. Reading them is
// safe from several goroutines; Close must come after.
type Weights struct {
	// Path is the file, or the index of the files, that was opened.
	Path string
	// Metadata is what a single safetensors file says of itself.
	Metadata map[string]string

	tensors map[string]Tensor
	files   []*mapping
}

// Open opens the weights of a model directory: model.safetensors, else its sharded
// form, else pytorch_model.bin, else its sharded form.
func Open(dir string) (*Weights, error) {
	path := func(name string) string { return filepath.Join(dir, name) }
	switch {
	case exists(dir, safetensorsFile):
		return OpenSafetensors(path(safetensorsFile))
	case exists(dir, safetensorsIndex):
		return openSharded(path(safetensorsIndex), parseSafetensors)
	case exists(dir, torchFile):
		return openFile(path(torchFile), parseTorch)
	case exists(dir, torchIndex):
		return openSharded(path(torchIndex), parseTorch)
	}
	return nil, fmt.Errorf("model directory %s has no weights: none of %s, %s, %s, %s is there",
		dir, safetensorsFile, safetensorsIndex, torchFile, torchIndex)
}

// OpenSafetensors opens one safetensors file, mapped into memory. The caller
// closes it.
func OpenSafetensors(path string) (*Weights, error) {
	return openFile(path, parseSafetensors)
}

// parser reads the tensors and the metadata of one mapped file.
type parser func(file []byte) ([]Tensor, map[string]string, error)

func openFile(path string, parse parser) (*Weights, error) {
	w := &Weights{Path: path, tensors: map[string]Tensor{}}
	tensors, metadata, err := w.mapAndParse(path, parse)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	for _, t := range tensors {
		w.tensors[t.Name] = t
	}
	w.Metadata = metadata
	return w, nil
}

// openSharded opens every file that an index names. Each tensor must lie in the
// file that the index gives it; tensors that it does not name are taken as well, as
// transformers takes them.
func openSharded(indexPath string, parse parser) (*Weights, error) {
	shards, err := readIndex(indexPath)
	if err != nil {
		return nil, err
	}
	paths, err := resolveShards(indexPath, shards)
	if err != nil {
		return nil, err
	}
	w := &Weights{Path: indexPath, tensors: map[string]Tensor{}}
	for _, file := range slices.Sorted(maps.Keys(paths)) {
		tensors, _, err := w.mapAndParse(paths[file], parse)
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		for _, t := range tensors {
			if named, ok := shards[t.Name]; !ok || named == file {
				w.tensors[t.Name] = t
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(shards)) {
		if _, ok := w.tensors[name]; !ok {
			err := fmt.Errorf("%s: says that tensor %s lies in %s, but it does not", indexPath, name, shards[name])
			return nil, errors.Join(err, w.Close())
		}
	}
	return w, nil
}

func (w *Weights) mapAndParse(path string, parse parser) ([]Tensor, map[string]string, error) {
	m, err := mapFile(path)
	if err != nil {
		return nil, nil, err
	}
	w.files = append(w.files, m)
	tensors, metadata, err := parse(m.data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return tensors, metadata, nil
}

// Names lists the tensors, sorted.
func (w *Weights) Names() []string {
	return slices.Sorted(maps.Keys(w.tensors))
}

// Tensor is the tensor called name; false: there is none. Its data are read-only
// and valid until Close.
func (w *Weights) Tensor(name string) (Tensor, bool) {
	t, ok := w.tensors[name]
	return t, ok
}

// Close unmaps the files; tensors taken before must not be used after. A second
// call does nothing.
func (w *Weights) Close() error {
	var errs []error
	for _, m := range w.files {
		errs = append(errs, m.close())
	}
	w.tensors, w.files = nil, nil
	return errors.Join(errs...)
}
