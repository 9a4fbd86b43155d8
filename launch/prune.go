package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/ddprun/ddprun/internal/generation"
)

// pruneAttempts deletes the logs of the oldest attempts, so that keep are left up to number, which has just begun. Of those it would delete it spares
// the oldest that holds an error.json: what failed first is what one looks for. Several agents may do so at once.
func pruneAttempts(logDir string, number, keep int) error {
	old, err := generation.Attempts(logDir)
	if err != nil {
		return fmt.Errorf("launch: log directory: %w", err)
	}
	old = slices.DeleteFunc(old, func(n int) bool { return n >= number })
	spared := false
	for _, n := range old[:max(0, len(old)-(keep-1))] {
		dir := filepath.Join(logDir, attemptName(n))
		if !spared && hasErrorFile(dir) {
			spared = true
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("launch: delete old logs: %w", err)
		}
	}
	return nil
}

// hasErrorFile says whether a rank of an attempt has failed.
func hasErrorFile(attempt string) bool {
	ranks, _ := os.ReadDir(attempt) // one that cannot be read has nothing to tell
	return slices.ContainsFunc(ranks, func(rank os.DirEntry) bool {
		_, err := os.Stat(filepath.Join(attempt, rank.Name(), errorFile))
		return err == nil
	})
}

// prune deletes the logs of old attempts. That it cannot does not end a run.
func (r *run) prune(number int) {
	if r.LogMaxAttempts == 0 {
		return
	}
	if err := pruneAttempts(r.LogDir, number, r.LogMaxAttempts); err != nil {
		r.Logger.Warn().Err(err).Msg("old logs stay")
	}
}
