package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// What a run writes into its output directory beside checkpoints and the last model.
const (
	metricsFile = "metrics.jsonl"
	logsDir     = "logs"
	samplesDir  = "samples" // what sample_log writes
)

// surveyed is what an output directory holds.
type surveyed struct {
	checkpoints []listed        // ours that count, oldest first, damaged or not
	left        []listed        // ours that do not count: a later generation has begun before their steps
	others      []listed        // other programs'
	manifest    map[string]File // of the last model
	model       bool            // whether the last model's weights are there
	foreign     []string        // names that are not ours; at most maxForeign, then "..."
}

const maxForeign = 3

// run tells whether a run has left anything that can be cleared.
func (s surveyed) run() bool { return len(s.checkpoints) > 0 || len(s.left) > 0 || s.manifest != nil }

// survey looks at an output directory without reading its large files. A missing one is empty.
func survey(outputDir string) (surveyed, error) {
	var s surveyed
	entries, err := os.ReadDir(outputDir)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return s, fmt.Errorf("output_dir: %w", err)
	}
	all, err := list(outputDir)
	if err != nil {
		return s, fmt.Errorf("output_dir: %w", err)
	}
	s.checkpoints = onlyCounting(onlyOurs(all))
	s.left = slices.DeleteFunc(onlyOurs(all), func(c listed) bool { return c.counts })
	s.others = slices.DeleteFunc(all, func(c listed) bool { return c.ours })
	if s.manifest, err = readManifest(outputDir); err != nil {
		return s, fmt.Errorf("output_dir %s: %w", outputDir, err)
	}
	ours := map[string]bool{metricsFile: true, logsDir: true, samplesDir: true, "lost+found": true}
	for _, c := range slices.Concat(s.checkpoints, s.left) {
		ours[filepath.Base(c.path)] = true
	}
	for name := range s.manifest {
		top, _, _ := strings.Cut(name, "/")
		ours[top] = true
	}
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case s.manifest != nil && name == modelFile:
			s.model = true
		case ours[name] || strings.HasPrefix(name, "."):
		case len(s.foreign) == maxForeign:
			s.foreign = append(s.foreign, "...")
		case len(s.foreign) < maxForeign:
			s.foreign = append(s.foreign, name)
		}
	}
	return s, nil
}
