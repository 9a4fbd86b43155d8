package generation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

// privateDir is where the files of this package lie in an output directory.
const privateDir = ".ddprun"

var (
	recordName = regexp.MustCompile(`^generation-(0|[1-9][0-9]*)(\.claimed)?$`)
	startName  = regexp.MustCompile(`^start-(0|[1-9][0-9]*)-(0|[1-9][0-9]*)$`)
	claimName  = regexp.MustCompile(`^claim-(0|[1-9][0-9]*)-[0-9]+$`)
)

// History is what the names in an output directory say of its generations.
type History struct {
	highest int // that anybody has claimed, or begun without a claim; -1: none
	records []int
	starts  []start
	claims  []claim // files of claims under way, or of claims that a crash has ended
}

type start struct {
	generation int
	step       int64
}

type claim struct {
	generation int
	path       string
}

// Look reads the names in an output directory, one listing. There may be no such directory.
func Look(outputDir string) (History, error) {
	h := History{highest: -1}
	dir := filepath.Join(outputDir, privateDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	} else if err != nil {
		return h, fmt.Errorf("generations: %w", err)
	}
	for _, entry := range entries {
		if m := recordName.FindStringSubmatch(entry.Name()); m != nil {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				return h, fmt.Errorf("generations: %s: %w", filepath.Join(dir, entry.Name()), err)
			}
			h.highest = max(h.highest, n)
			if m[2] == "" {
				h.records = append(h.records, n)
			}
		} else if m := startName.FindStringSubmatch(entry.Name()); m != nil {
			n, err1 := strconv.Atoi(m[1])
			step, err2 := strconv.ParseInt(m[2], 10, 64)
			if err := errors.Join(err1, err2); err != nil {
				return h, fmt.Errorf("generations: %s: %w", filepath.Join(dir, entry.Name()), err)
			}
			h.starts = append(h.starts, start{n, step})
			h.highest = max(h.highest, n)
		} else if m := claimName.FindStringSubmatch(entry.Name()); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil {
				h.claims = append(h.claims, claim{n, filepath.Join(dir, entry.Name())})
			}
		}
	}
	return h, nil
}

// Counts tells whether the checkpoint that a generation wrote after so many steps is part of the run: no later generation has begun
// before that step.
func (h History) Counts(generation int, step int64) bool {
	for _, s := range h.starts {
		if s.generation > generation && s.step < step {
			return false
		}
	}
	return true
}

// Superseded tells whether a generation after n is claimed, and the highest one. It is one listing, cheap enough to come before every write.
func Superseded(outputDir string, n int) (by int, ok bool, err error) {
	h, err := Look(outputDir)
	return h.highest, h.highest > n, err
}
