package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// privateDir holds what must not be taken for a checkpoint or a model. The launcher keeps its generations there too.
const privateDir = ".ddprun"

// What a directory below privateDir is there for. Its name is <kind>-g<generation>-<name>.
const (
	kindSave     = "save"     // is being written
	kindReplaced = "replaced" // the complete checkpoint, or the file, that another of the same name is about to replace
	kindDelete   = "delete"   // is to be deleted, unless a later generation has been claimed
	kindGone     = "gone"     // is being deleted
)

var (
	scratchName    = regexp.MustCompile(`^(save|replaced|delete|gone)-g([0-9]+)-(checkpoint-[0-9]+|model|file-.+)$`)
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

// fileScratch is how the name of a file of the output directory, a slash-separated path, stands in the name of a scratch file.
func fileScratch(name string) string { return filePrefix + url.PathEscape(name) }

const filePrefix = "file-"

// homeOf is where what has that part of a scratch name belongs.
func homeOf(outputDir, name string) (string, error) {
	if file, found := strings.CutPrefix(name, filePrefix); found {
		path, err := url.PathUnescape(file)
		if err == nil && !filepath.IsLocal(path) {
			err = fmt.Errorf("%q lies elsewhere", path)
		}
		return filepath.Join(outputDir, path), err
	}
	return filepath.Join(outputDir, name), nil
}

// Clean removes what interrupted writes and deletions of this generation and earlier ones have left in the output
// directory, and puts back what was moved aside and not replaced or given up. A run calls it before it looks for
// checkpoints; it is refused with ErrSuperseded once a later generation is claimed. restored tells that something was put back. Where there is nothing, nor
// an output directory, it does nothing.
func Clean(outputDir string, generation uint64) (restored bool, err error) {
	dir := filepath.Join(outputDir, privateDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if err := mayWrite(outputDir, generation); err != nil {
		return false, err
	}
	var failed []error
	for _, entry := range entries {
		match := scratchName.FindStringSubmatch(entry.Name())
		if match == nil || entry.IsDir() == strings.HasPrefix(match[3], filePrefix) {
			continue // the launcher's, or not ours
		}
		if g, err := strconv.ParseUint(match[2], 10, 64); err != nil || g > generation {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		home, err := homeOf(outputDir, match[3])
		if err != nil {
			continue
		}
		between("clean: " + match[1])
		if match[1] == kindReplaced || match[1] == kindDelete {
			whole, err := isWhole(path)
			if err != nil {
				failed = append(failed, err)
				continue
			}
			if _, err := os.Lstat(home); whole && errors.Is(err, fs.ErrNotExist) {
				restored = true
				failed = append(failed, putBack(path, home))
				continue
			}
		}
		failed = append(failed, os.RemoveAll(path))
	}
	return restored, errors.Join(failed...)
}

// isWhole tells whether what was moved aside is a file, or a checkpoint with every file in its length: an earlier version deleted it there.
func isWhole(path string) (bool, error) {
	if isFile(path) {
		return true, nil
	}
	return quickCheck(path)
}
