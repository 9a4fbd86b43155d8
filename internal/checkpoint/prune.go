package checkpoint

import (
	"fmt"
	"path/filepath"
	"slices"
)

// Prune deletes the oldest checkpoints until limit are left, as Trainer's save_total_limit does; a limit of 0 or less
// means no limit. It never deletes the newest complete one nor those named in keep (the best model's: paths or names),
// even where more than limit are left that way. Whether one is complete is judged by its state's checksum and by the
// sizes of its files: reading them all again at each save would cost as much as writing them. Other programs' checkpoints
// are neither counted nor touched.
func Prune(outputDir string, limit int, generation uint64, keep ...string) error {
	if limit <= 0 {
		return nil
	}
	all, err := list(outputDir)
	checkpoints := onlyOurs(all)
	if err != nil || len(checkpoints) <= limit {
		return err
	}
	protected := map[string]bool{}
	for _, k := range keep {
		protected[filepath.Base(k)] = true
	}
	for _, c := range slices.Backward(checkpoints) {
		if quickCheck(c.path) {
			protected[filepath.Base(c.path)] = true
			break
		}
	}
	excess := len(checkpoints) - limit
	for _, c := range checkpoints {
		name := filepath.Base(c.path)
		if excess == 0 {
			break
		}
		if protected[name] {
			continue
		}
		if err := discard(outputDir, name, generation); err != nil {
			return fmt.Errorf("%s was not deleted (save_total_limit %d): %w", c.path, limit, err)
		}
		excess--
	}
	return nil
}
