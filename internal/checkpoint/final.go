package checkpoint

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// manifestFile lists, below privateDir, what SaveModel wrote into the output directory.
const manifestFile = "model.json"

// SaveModel writes the model into outputDir itself, as Trainer's save_model does. Each file is replaced atomically, and
// only after all are complete on the disk: weights after the tokenizer's files and config.json last, so a reader never
// finds a new configuration with earlier or torn weights. On an error, which names the file, earlier files may be
// replaced already, but none is damaged. Once a later generation is claimed, it is refused with ErrSuperseded.
func SaveModel(ctx context.Context, outputDir string, generation uint64, m Model) error {
	path, err := scratch(outputDir, kindSave, generation, "model")
	if err == nil {
		err = writeModel(ctx, path, m)
	}
	if err == nil {
		err = install(outputDir, path, generation)
	}
	if path != "" {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if err != nil {
		return fmt.Errorf("the model in %s was not saved: %w", outputDir, err)
	}
	return nil
}

// install moves the files of a written model into the output directory. The manifest comes first, so that after a crash in
// between every file that was moved is known as ours.
func install(outputDir, path string, generation uint64) error {
	files, err := seal(path)
	if err != nil {
		return err
	}
	manifest := filepath.Join(path, privateDir+"-"+manifestFile) // beside the model's files, none of which has such a name
	encode := func() ([]byte, error) { return json.MarshalIndent(files, "", "  ") }
	if err := writeEncoded(manifest, encode); err != nil {
		return err
	}
	if err := Replace(outputDir, generation, manifest, filepath.Join(privateDir, manifestFile)); err != nil {
		return err
	}
	for _, name := range slices.SortedFunc(maps.Keys(files), func(a, b string) int {
		return cmp.Or(cmp.Compare(installRank(a), installRank(b)), cmp.Compare(a, b))
	}) {
		to := filepath.Join(outputDir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := Replace(outputDir, generation, filepath.Join(path, filepath.FromSlash(name)), name); err != nil {
			return err
		}
	}
	return nil
}

func installRank(name string) int {
	switch name {
	case configFile:
		return 2
	case modelFile:
		return 1
	}
	return 0
}

// readManifest returns what SaveModel wrote into the output directory, of which some may have been changed or removed
// since; nothing where it never did.
func readManifest(outputDir string) (map[string]File, error) {
	path := filepath.Join(outputDir, privateDir, manifestFile)
	data, err := readFile(path, maxStateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var files map[string]File
	if err := json.Unmarshal(data, &files); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for name := range files {
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			return nil, fmt.Errorf("%s: lists %q, which lies elsewhere", path, name)
		}
	}
	return files, nil
}
