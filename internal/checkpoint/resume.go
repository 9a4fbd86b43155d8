package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Values of resume_from_checkpoint; any other is a checkpoint's directory.
const (
	ResumeAuto = "auto" // go on from the newest complete checkpoint, if there is one
	ResumeNone = "none" // begin with the model
)

// Decision says how a run begins.
type Decision struct {
	// Resume is where to go on; nil: begin with the model.
	Resume *Checkpoint
	// Clear says that the user has asked for the run in the output directory to be overwritten: call Clear first.
	Clear bool
	// Broken names newer checkpoints that were passed over, with what is wrong with them.
	Broken []error
	// Left names checkpoints that do not count: a generation wrote them after a later one had begun before their steps.
	Left []string
}

// Decide says how a run may begin in outputDir, or why not; the end of ctx ends it, with its cause. It changes nothing. The rule: an existing run is never
// overwritten without being told to.
//
//   - auto goes on from the newest checkpoint that verifies, whatever overwrite says: the same command resumes. Where there
//     is none, it begins, unless there is something to lose: damaged checkpoints, a finished model, others' files.
//   - none begins, and needs overwrite where there is something to lose.
//   - A directory is loaded or refused, also where outputDir has later checkpoints or those of another run. Overwrite plays
//     no part: internal/config refuses the two together.
//
// Logs, metrics, hidden files and lost+found are nothing to lose.
func Decide(ctx context.Context, outputDir, mode string, overwrite bool) (Decision, error) {
	found, err := survey(outputDir)
	if err != nil {
		return Decision{}, err
	}
	var d Decision
	switch mode {
	case ResumeNone:
		d, err = begin(outputDir, found, overwrite)
	case ResumeAuto:
		d, err = resumeLatest(ctx, outputDir, found, overwrite)
	default:
		d, err = resumeFrom(ctx, outputDir, mode, found)
	}
	if err != nil {
		return Decision{}, err
	}
	for _, c := range found.left {
		d.Left = append(d.Left, c.path)
	}
	if way := later(outputDir, found.others, d.Resume); len(way) > 0 {
		return Decision{}, fmt.Errorf("%s has no %s, so it is another program's, and this run would come to write there: "+
			"move it away or choose another output_dir", way[0].path, stateFile)
	}
	return d, nil
}

// resumeLatest decides for resume_from_checkpoint: auto.
func resumeLatest(ctx context.Context, outputDir string, found surveyed, overwrite bool) (Decision, error) {
	newest, broken, err := Latest(ctx, outputDir)
	switch {
	case err != nil:
		return Decision{}, err
	case newest != nil:
		return Decision{Resume: newest, Broken: broken}, nil
	case len(broken) > 0 && !overwrite:
		return Decision{}, fmt.Errorf("output_dir %s: no checkpoint can be read: %s: "+
			"mend one, or begin again with overwrite_output_dir: true or another output_dir", outputDir, join(broken))
	}
	d, err := begin(outputDir, found, overwrite)
	d.Broken = broken
	return d, err
}

// begin decides for a run that starts from the model.
func begin(outputDir string, found surveyed, overwrite bool) (Decision, error) {
	if overwrite {
		return Decision{Clear: found.run()}, nil
	}
	const way = "choose another output_dir, or set overwrite_output_dir: true to give up what is there"
	switch {
	case len(found.checkpoints) > 0:
		return Decision{}, fmt.Errorf("output_dir %s holds a run (%s): resume_from_checkpoint: auto goes on with it; or %s",
			outputDir, filepath.Base(found.checkpoints[len(found.checkpoints)-1].path), way)
	case found.model:
		return Decision{}, fmt.Errorf("output_dir %s holds the model of a finished run and no checkpoint to go on from: %s",
			outputDir, way)
	case len(found.foreign) > 0:
		return Decision{}, fmt.Errorf("output_dir %s holds files that ddprun did not write (%s): "+
			"choose another output_dir, or set overwrite_output_dir: true to write beside and over them",
			outputDir, strings.Join(found.foreign, ", "))
	}
	return Decision{}, nil
}

// resumeFrom decides for a checkpoint that was named.
func resumeFrom(ctx context.Context, outputDir, path string, found surveyed) (Decision, error) {
	c, err := Load(ctx, path)
	if err != nil {
		return Decision{}, fmt.Errorf("resume_from_checkpoint: %w", err)
	}
	if lost := later(outputDir, found.checkpoints, c); len(lost) > 0 {
		return Decision{}, fmt.Errorf("output_dir %s holds %s, which a run from %s would replace: "+
			"resume_from_checkpoint: auto goes on with it; or choose another output_dir", outputDir, filepath.Base(lost[0].path), path)
	}
	if !within(outputDir, c) && (found.model || len(found.foreign) > 0) {
		return Decision{}, fmt.Errorf("output_dir %s is not empty, and %s is not in it: choose another output_dir", outputDir, path)
	}
	return Decision{Resume: c}, nil
}

// Clear removes from outputDir what ddprun wrote: the checkpoints, metrics.jsonl and the last model's files as far as they
// are as SaveModel left them. Everything else stays, logs too. Once a later generation is claimed, it is refused with ErrSuperseded.
func Clear(outputDir string, generation uint64) error {
	found, err := survey(outputDir)
	if err != nil {
		return err
	}
	for _, c := range slices.Concat(found.checkpoints, found.left) {
		if err := discard(outputDir, filepath.Base(c.path), generation); err != nil {
			return fmt.Errorf("overwrite_output_dir: %s was not deleted: %w", c.path, err)
		}
	}
	remove := []string{metricsFile}
	for name, want := range found.manifest {
		if got, err := describe(context.Background(), filepath.Join(outputDir, filepath.FromSlash(name))); err == nil && got == want {
			remove = append(remove, name)
		}
	}
	remove = append(remove, filepath.Join(privateDir, manifestFile)) // last: it says what is ours
	for _, name := range remove {
		if err := discard(outputDir, filepath.FromSlash(name), generation); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("overwrite_output_dir: %w", err)
		}
	}
	return nil
}

// later returns the checkpoints that a run from c will write again: those after it, or all where c is nil or lies elsewhere.
func later(outputDir string, checkpoints []listed, c *Checkpoint) []listed {
	if c == nil || !within(outputDir, c) {
		return checkpoints
	}
	var after []listed
	for _, other := range checkpoints {
		if other.step > c.State.Step {
			after = append(after, other)
		}
	}
	return after
}

// within tells whether a checkpoint lies in the output directory, by whatever path it was named.
func within(outputDir string, c *Checkpoint) bool {
	path, err := filepath.EvalSymlinks(c.Path)
	if err != nil {
		return false
	}
	a, errA := os.Stat(outputDir)
	b, errB := os.Stat(filepath.Dir(path))
	return errA == nil && errB == nil && os.SameFile(a, b)
}
