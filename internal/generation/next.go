package generation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

var (
	attemptName    = regexp.MustCompile(`^attempt_(0|[1-9][0-9]*)$`)
	checkpointName = regexp.MustCompile(`^checkpoint-[0-9]+$`)
)

// Next returns the least number that lies above everything that names one: records, starts, the directories attempt_<n> of the
// logs, and checkpoints. An output directory that an earlier version wrote has no records, and goes on from the others. There may be no directories.
func Next(outputDir, logDir string) (int, error) {
	h, err := Look(outputDir)
	if err != nil {
		return 0, err
	}
	highest := h.highest
	for _, source := range []func() (int, error){
		func() (int, error) { return highestAttempt(logDir) },
		func() (int, error) { return highestWriter(outputDir) },
	} {
		n, err := source()
		if err != nil {
			return 0, fmt.Errorf("the next generation's number: %w", err)
		}
		highest = max(highest, n)
	}
	return highest + 1, nil
}

// highestAttempt is the highest number of an attempt in the logs; -1: none.
func highestAttempt(logDir string) (int, error) {
	highest := -1
	if logDir == "" {
		return highest, nil
	}
	entries, err := os.ReadDir(logDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for _, entry := range entries {
		if m := attemptName.FindStringSubmatch(entry.Name()); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil {
				highest = max(highest, n)
			}
		}
	}
	return highest, nil
}

// maxStateBytes is the largest ddprun_state.json that is read.
const maxStateBytes = 64 << 20

// highestWriter is the highest generation that a checkpoint was written by; -1: none. A damaged one says nothing, and need not: its number is
// in the logs, or no harm is done by using it again.
func highestWriter(outputDir string) (int, error) {
	highest := -1
	entries, err := os.ReadDir(outputDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for _, entry := range entries {
		if !entry.IsDir() || !checkpointName.MatchString(entry.Name()) {
			continue
		}
		path := filepath.Join(outputDir, entry.Name(), "ddprun_state.json")
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() || info.Size() > maxStateBytes {
			continue
		}
		data, err := os.ReadFile(path)
		var state struct {
			Generation int `json:"generation"`
		}
		if err == nil && json.Unmarshal(data, &state) == nil {
			highest = max(highest, state.Generation)
		}
	}
	return highest, nil
}
