package checkpoint

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

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
// that is missing, damaged or of a format that this program does not know.
func Load(path string) (*Checkpoint, error) {
	state, err := readState(path)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(state.Files)) {
		file := filepath.Join(path, filepath.FromSlash(name))
		got, err := describe(file)
		if err != nil {
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

// quickCheck tells whether a checkpoint has its state and every file in its length, without reading them.
func quickCheck(path string) bool {
	state, err := readState(path)
	if err != nil {
		return false
	}
	for name, want := range state.Files {
		info, err := os.Lstat(filepath.Join(path, filepath.FromSlash(name)))
		if err != nil || !info.Mode().IsRegular() || info.Size() != want.Size {
			return false
		}
	}
	return true
}

// isOurs tells whether ddprun wrote a directory as a checkpoint, damaged or not.
func isOurs(path string) bool { return isFile(filepath.Join(path, stateFile)) }

// listed is a checkpoint by its name; what it holds has not been looked at.
type listed struct {
	path string
	step int64
	ours bool
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
			found = append(found, listed{path, step, isOurs(path)})
		}
	}
	slices.SortFunc(found, func(a, b listed) int { return cmp.Compare(a.step, b.step) })
	return found, nil
}

// onlyOurs leaves other programs' checkpoints out.
func onlyOurs(checkpoints []listed) []listed {
	return slices.DeleteFunc(slices.Clone(checkpoints), func(c listed) bool { return !c.ours })
}

// Latest loads the newest checkpoint of an output directory that verifies; nil where there is none. broken says of each
// newer one what is wrong with it.
func Latest(outputDir string) (newest *Checkpoint, broken []error, err error) {
	checkpoints, err := list(outputDir)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range slices.Backward(checkpoints) {
		newest, err := Load(c.path)
		if err == nil {
			return newest, broken, nil
		}
		broken = append(broken, err)
	}
	return nil, broken, nil
}
