package checkpoint

import (
	"fmt"
	"path/filepath"
)

// Prune deletes the oldest checkpoints until limit are left, as Trainer's save_total_limit does; a limit of 0 or less
// means no limit. It never deletes the newest complete one nor those named in keep (the best model's: paths or names),
// even where more than limit are left that way. Whether one is complete is judged by its state's checksum and by the
// sizes of its files: reading them all again at each save would cost as much as writing them. Those that do not count go too. Other programs' checkpoints
// are neither counted nor touched.
//
// It deletes only where the newest complete one is of this generation: no later start can leave that one behind, and so no other has to be kept. Once a later generation
// is claimed, it is refused with ErrSuperseded.
func Prune(outputDir string, limit int, generation uint64, keep ...string) error {
	if limit <= 0 {
		return nil
	}
	all, err := list(outputDir)
	if err != nil {
		return err
	}
	ours := onlyOurs(all)
	checkpoints := onlyCounting(ours)
	protected := map[string]bool{}
	for _, k := range keep {
		protected[filepath.Base(k)] = true
	}
	i := len(checkpoints) - 1
	for ; i >= 0; i-- {
		if whole, err := quickCheck(checkpoints[i].path); err != nil {
			return err
		} else if whole {
			break
		}
	}
	if i < 0 || checkpoints[i].generation != generation {
		return nil
	}
	protected[filepath.Base(checkpoints[i].path)] = true
	excess := len(checkpoints) - limit
	for _, c := range ours {
		name := filepath.Base(c.path)
		if c.counts && (excess <= 0 || protected[name]) {
			continue
		}
		if err := discard(outputDir, name, generation); err != nil {
			return fmt.Errorf("%s was not deleted (save_total_limit %d): %w", c.path, limit, err)
		}
		if c.counts {
			excess--
		}
	}
	return nil
}
