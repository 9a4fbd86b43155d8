package generation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	attempts, err1 := Attempts(logDir)
	writer, err2 := highestWriter(outputDir)
	if err := errors.Join(err1, err2); err != nil {
		return 0, fmt.Errorf("the next generation's number: %w", err)
	}
	return slices.Max(append(attempts, h.highest, writer)) + 1, nil
}

// Attempts returns the numbers of the generations that have logs in logDir, attempt_<n>, in order; none where there is no such directory.
func Attempts(logDir string) ([]int, error) {
	if logDir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(logDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var numbers []int
	for _, entry := range entries {
		if m := attemptName.FindStringSubmatch(entry.Name()); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	return numbers, nil
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
