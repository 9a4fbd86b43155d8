package generation

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Run says who has begun a generation: what start-<n>-<step> holds.
type Run struct {
	ID     string   `json:"run_id"`
	Agents []string `json:"agents,omitempty"` // processes that have started its workers
}

// Begin says that generation n begins from the checkpoint after step steps; 0: from the model. Rank 0 calls it once, when the workers of older
// generations have ended, with the newest checkpoint that counts, before anything is written. From then on later checkpoints of older generations
// count no more.
func Begin(outputDir string, n int, step int64, run Run) error {
	fail := func(err error) error { return fmt.Errorf("begin generation %d in %s: %w", n, outputDir, err) }
	data, err := json.Marshal(run)
	if err != nil {
		return fail(err)
	}
	dir := filepath.Join(outputDir, privateDir)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fail(err)
	}
	temporary, err := writeTemporary(dir, fmt.Sprintf("claim-%d-*", n), data)
	if err != nil {
		return fail(err)
	}
	if err := os.Rename(temporary, filepath.Join(dir, fmt.Sprintf("start-%d-%d", n, step))); err != nil {
		return fail(errors.Join(err, os.Remove(temporary)))
	}
	if err := Sync(dir); err != nil {
		return fail(err)
	}
	return nil
}

// TakeBack removes what Begin has made, for a generation that was overtaken meanwhile and has written nothing.
func TakeBack(outputDir string, n int, step int64) error {
	dir := filepath.Join(outputDir, privateDir)
	if err := os.Remove(filepath.Join(dir, fmt.Sprintf("start-%d-%d", n, step))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return Sync(dir)
}

// LastRun returns who has begun the newest generation that has begun; a zero Run where none has.
func LastRun(outputDir string) (Run, error) {
	h, err := Look(outputDir)
	if err != nil || len(h.starts) == 0 {
		return Run{}, err
	}
	last := slices.MaxFunc(h.starts, func(a, b start) int { return cmp.Compare(a.generation, b.generation) })
	path := filepath.Join(outputDir, privateDir, fmt.Sprintf("start-%d-%d", last.generation, last.step))
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Run{}, nil
	} else if err != nil {
		return Run{}, err
	}
	var run Run
	if err := json.Unmarshal(data, &run); err != nil {
		return Run{}, fmt.Errorf("%s: %w", path, err)
	}
	return run, nil
}

// GoesOn tells whether a generation that r begins goes on with one that before has begun, so that what it has done is to be kept: a process that
// started workers then still does so, or, where no processes are named, the run has the same name.
func (r Run) GoesOn(before Run) bool {
	if len(r.Agents) == 0 || len(before.Agents) == 0 {
		return r.ID != "" && r.ID == before.ID
	}
	return slices.ContainsFunc(r.Agents, func(id string) bool { return slices.Contains(before.Agents, id) })
}
