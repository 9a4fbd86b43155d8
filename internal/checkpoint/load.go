package checkpoint

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/ddprun/ddprun/internal/generation"
	"github.com/ddprun/ddprun/internal/hf"
)

// Largest state files that are read. A log of ten million entries is below the second.
const (
	maxStateBytes   = 64 << 20
	maxTrainerBytes = 1 << 30
)

// Checkpoint is one that has been verified.
type Checkpoint struct {
	Path    string
	State   State
	Trainer TrainerState
}

// Model opens the weights. The caller closes them.
func (c *Checkpoint) Model() (*hf.Weights, error) { return hf.Open(c.Path) }

// Optimizer opens the optimizer's state. The caller closes it.
func (c *Checkpoint) Optimizer() (*hf.Weights, error) {
	return hf.OpenSafetensors(filepath.Join(c.Path, optimizerFile))
}

// Load reads a checkpoint and verifies every file of it, which takes as long as reading them. The error names the file
// that is missing, damaged or of a format that this program does not know. The end of ctx ends it, with its cause.
func Load(ctx context.Context, path string) (*Checkpoint, error) {
	state, err := readState(path)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(state.Files)) {
		file := filepath.Join(path, filepath.FromSlash(name))
		got, err := describe(ctx, file)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		} else if err != nil {
			return nil, fmt.Errorf("checkpoint %s: %w", path, err)
		}
		want := state.Files[name]
		if got.Size != want.Size {
			return nil, fmt.Errorf("checkpoint %s: %s has %d bytes instead of %d", path, file, got.Size, want.Size)
		}
		if got != want {
			return nil, fmt.Errorf("checkpoint %s: %s is damaged or was edited: its SHA-256 is %s instead of %s",
				path, file, got.SHA256, want.SHA256)
		}
	}
	c := &Checkpoint{Path: path, State: state}
	file := filepath.Join(path, trainerFile)
	data, err := readFile(file, maxTrainerBytes)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	if err := json.Unmarshal(data, &c.Trainer); err != nil {
		return nil, fmt.Errorf("checkpoint %s: %s: %w", path, file, err)
	}
	return c, nil
}

// readState reads and checks ddprun_state.json alone.
func readState(path string) (State, error) {
	file := filepath.Join(path, stateFile)
	data, err := readFile(file, maxStateBytes)
	if errors.Is(err, fs.ErrNotExist) && isFile(filepath.Join(path, configFile)) {
		return State{}, fmt.Errorf("%s has no %s, so it is not a checkpoint of ddprun: "+
			"to begin with its weights, name it as model", path, stateFile)
	} else if err != nil {
		return State{}, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	state, err := decodeState(data)
	if err != nil {
		return State{}, fmt.Errorf("checkpoint %s: %s %w", path, file, err)
	}
	if step, ok := stepOf(filepath.Base(path)); ok && step != state.Step {
		return State{}, fmt.Errorf("checkpoint %s: is of step %d by its %s: was it renamed?", path, state.Step, stateFile)
	}
	for _, name := range []string{configFile, modelFile, optimizerFile, trainerFile} {
		if _, ok := state.Files[name]; !ok {
			return State{}, fmt.Errorf("checkpoint %s: %s does not list %s", path, file, name)
		}
	}
	for name := range state.Files {
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			return State{}, fmt.Errorf("checkpoint %s: %s lists %q, which lies elsewhere", path, file, name)
		}
	}
	return state, nil
}

// quickCheck tells whether a checkpoint has its state and every file in its length, without reading them. An error is that this cannot be told.
func quickCheck(path string) (whole bool, err error) {
	state, err := readState(path)
	if unread(path, err) {
		return false, err
	} else if err != nil {
		return false, nil
	}
	for name, want := range state.Files {
		info, err := os.Lstat(filepath.Join(path, filepath.FromSlash(name)))
		if unread(path, err) {
			return false, err
		} else if err != nil || !info.Mode().IsRegular() || info.Size() != want.Size {
			return false, nil
		}
	}
	return true, nil
}

// isOurs tells whether ddprun wrote a directory as a checkpoint, damaged or not.
func isOurs(path string) bool { return isFile(filepath.Join(path, stateFile)) }

// listed is a checkpoint by its name and its state; its other files have not been looked at.
type listed struct {
	path       string
	step       int64
	ours       bool
	generation uint64 // that wrote it; 0 where the state cannot be read
	counts     bool   // it is part of the run, as far as that can be told
}

// list returns the checkpoints of an output directory, oldest first; none where there is no such directory. Links are none.
func list(outputDir string) ([]listed, error) {
	entries, err := os.ReadDir(outputDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var found []listed
	for _, entry := range entries {
		path := filepath.Join(outputDir, entry.Name())
		if step, ok := stepOf(entry.Name()); ok && entry.IsDir() {
			state, err := readState(path)
			if unread(path, err) {
				return nil, err
			}
			found = append(found, listed{path: path, step: step, ours: isOurs(path), generation: state.Generation, counts: true})
		}
	}
	history, err := generation.Look(outputDir) // after the checkpoints: one that is there before a start is not taken for a late one
	if err != nil {
		return nil, err
	}
	for i, c := range found {
		found[i].counts = !c.ours || history.Counts(number(c.generation), c.step)
	}
	slices.SortFunc(found, func(a, b listed) int { return cmp.Compare(a.step, b.step) })
	return found, nil
}

// onlyOurs leaves other programs' checkpoints out.
func onlyOurs(checkpoints []listed) []listed {
	return slices.DeleteFunc(slices.Clone(checkpoints), func(c listed) bool { return !c.ours })
}

// onlyCounting leaves those out that a later generation has left behind.
func onlyCounting(checkpoints []listed) []listed {
	return slices.DeleteFunc(slices.Clone(checkpoints), func(c listed) bool { return !c.counts })
}

// Latest loads the newest checkpoint of an output directory that counts and verifies; nil where there is none. broken says of each
// newer one what is wrong with it. One that cannot be read is an error: to go on from an older one would give it up for good.
func Latest(ctx context.Context, outputDir string) (newest *Checkpoint, broken []error, err error) {
	for range maxLooks {
		checkpoints, err := list(outputDir)
		if err != nil {
			return nil, nil, err
		}
		newest, broken, gone, err := latestOf(ctx, onlyCounting(checkpoints))
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		} else if err != nil {
			return nil, nil, err
		}
		if newest != nil || !gone {
			return newest, broken, nil
		}
	}
	return nil, nil, fmt.Errorf("%s: its checkpoints change faster than they can be read", outputDir)
}

// maxLooks bounds how often a directory is read anew because a run, which is at work there, has deleted what was to be read.
const maxLooks = 100

// latestOf is Latest of a list. gone tells that one of them was deleted meanwhile.
func latestOf(ctx context.Context, checkpoints []listed) (newest *Checkpoint, broken []error, gone bool, err error) {
	for _, c := range slices.Backward(checkpoints) {
		newest, err := Load(ctx, c.path)
		switch {
		case err == nil:
			return newest, broken, false, nil
		case unread(c.path, err):
			return nil, nil, false, fmt.Errorf("%w: it is not passed over, since it may be whole; move it away to go on from the one before", err)
		}
		broken = append(broken, err)
		gone = gone || !isDir(c.path)
	}
	return nil, broken, gone, nil
}
