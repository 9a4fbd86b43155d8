package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

// privateDir holds what must not be taken for a checkpoint or a model. The launcher keeps its generations there too.
const privateDir = ".ddprun"

// What a directory below privateDir is there for. Its name is <kind>-g<generation>-<name>.
const (
	kindSave     = "save"     // is being written
	kindReplaced = "replaced" // the complete checkpoint that another of the same step is about to replace
	kindDelete   = "delete"   // is being deleted
)

var (
	scratchName    = regexp.MustCompile(`^(save|replaced|delete)-g([0-9]+)-(checkpoint-[0-9]+|model)$`)
	checkpointName = regexp.MustCompile(`^checkpoint-(0|[1-9][0-9]*)$`)
)

// Name is that of the checkpoint after step steps in its output_dir, as Trainer names it.
func Name(step int64) string { return "checkpoint-" + strconv.FormatInt(step, 10) }

// stepOf reads names that Name makes.
func stepOf(name string) (step int64, ok bool) {
	match := checkpointName.FindStringSubmatch(name)
	if match == nil {
		return 0, false
	}
	step, err := strconv.ParseInt(match[1], 10, 64)
	return step, err == nil
}

// scratch returns a path below the private directory, which it creates, where nothing lies yet. What an interrupted
// attempt of the same generation left there is removed.
func scratch(outputDir, kind string, generation uint64, name string) (string, error) {
	dir := filepath.Join(outputDir, privateDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, fmt.Sprintf("%s-g%d-%s", kind, generation, name))
	return path, os.RemoveAll(path)
}

// discard deletes a directory of the output directory so that no half of it is ever found under its name.
func discard(outputDir, name string, generation uint64) error {
	path, err := scratch(outputDir, kindDelete, generation, name)
	if err != nil {
		return err
	}
	if err := move(filepath.Join(outputDir, name), path); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// Clean removes what interrupted writes and deletions of this generation and earlier ones have left in the output
// directory, and puts a checkpoint back whose replacement never came. A run calls it before it looks for
// checkpoints; nothing may be writing there. Where there is nothing, nor an output directory, it does nothing.
func Clean(outputDir string, generation uint64) error {
	dir := filepath.Join(outputDir, privateDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var failed []error
	for _, entry := range entries {
		match := scratchName.FindStringSubmatch(entry.Name())
		if match == nil || !entry.IsDir() {
			continue // the launcher's, or not ours
		}
		if g, err := strconv.ParseUint(match[2], 10, 64); err != nil || g > generation {
			continue
		}
		path, home := filepath.Join(dir, entry.Name()), filepath.Join(outputDir, match[3])
		if match[1] == kindReplaced && !isDir(home) {
			failed = append(failed, move(path, home))
		} else {
			failed = append(failed, os.RemoveAll(path))
		}
	}
	return errors.Join(failed...)
}
