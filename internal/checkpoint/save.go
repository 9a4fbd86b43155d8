package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ddprun/ddprun/internal/generation"
	"github.com/ddprun/ddprun/internal/hf"
)

// Model is a model as from_pretrained reads it. All of it is borrowed.
type Model struct {
	Tensors []hf.Tensor
	Config  *hf.Config
	// Extras is the directory whose other files (tokenizer, generation config, ...) hf.CopyExtras copies; empty: none.
	Extras string
}

// Snapshot is all that a checkpoint is written from. Tensors are borrowed until Save returns and must not change before.
type Snapshot struct {
	Model     Model
	Optimizer []hf.Tensor
	Trainer   TrainerState
	State     State // Step and Generation name the directory
}

// SaveConfig says where and on what condition.
type SaveConfig struct {
	OutputDir string
	// Confirm, if given, is called when everything is on the disk but not yet in place. It returns nil if this process may still put it there.
	Confirm func(context.Context) error
}

// Save writes OutputDir/checkpoint-<step>. On an error, which names the file, everything is as it was: what was written
// is removed and the earlier checkpoints are untouched. A checkpoint of the same step is replaced: it is set aside
// complete until the new one is in place, and a crash in between ends in Clean putting it back. Once a later generation than State.Generation is claimed, it
// is refused with ErrSuperseded.
func Save(ctx context.Context, c SaveConfig, s Snapshot) error {
	name := Name(s.State.Step)
	fail := func(err error) error {
		return fmt.Errorf("%s was not saved: %w", filepath.Join(c.OutputDir, name), err)
	}
	if home := filepath.Join(c.OutputDir, name); isDir(home) && !isOurs(home) {
		return fail(fmt.Errorf("there is a directory of that name without %s, so another program's: "+
			"move it away or choose another output_dir", stateFile))
	}
	path, err := scratch(c.OutputDir, kindSave, s.State.Generation, name)
	if err != nil {
		return fail(err)
	}
	err = write(ctx, path, s)
	if err == nil && c.Confirm != nil {
		err = c.Confirm(ctx)
	}
	if err == nil {
		err = commit(c.OutputDir, path, name, s.State.Generation)
	}
	if err != nil {
		return fail(errors.Join(err, os.RemoveAll(path))) // a full disk gets its room back
	}
	return nil
}

// write makes a complete checkpoint at path, where nothing lies yet, and brings it to the disk.
func write(ctx context.Context, path string, s Snapshot) error {
	if err := writeModel(ctx, path, s.Model); err != nil {
		return err
	}
	if err := hf.WriteSafetensors(filepath.Join(path, optimizerFile), s.Optimizer, nil); err != nil {
		return err
	}
	if err := writeEncoded(filepath.Join(path, trainerFile), s.Trainer.encode); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var err error
	if s.State.Files, err = seal(path); err != nil {
		return err
	}
	if err := writeEncoded(filepath.Join(path, stateFile), s.State.encode); err != nil {
		return err
	}
	return generation.Sync(path)
}

// writeModel makes the directory path with the model in it.
func writeModel(ctx context.Context, path string, m Model) error {
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	if m.Extras != "" {
		if err := hf.CopyExtras(m.Extras, path); err != nil {
			return err
		}
	}
	if err := m.Config.Write(filepath.Join(path, configFile)); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return hf.WriteSafetensors(filepath.Join(path, modelFile), m.Tensors, map[string]string{"format": "pt"})
}

// commit puts a written checkpoint into place. What has the name already is replaced if it is of this generation or an earlier one.
func commit(outputDir, path, name string, generation uint64) error {
	underWay.RLock()
	defer underWay.RUnlock()
	home := filepath.Join(outputDir, name)
	aside, err := scratch(outputDir, kindReplaced, generation, name)
	if err != nil {
		return err
	}
	// Where the commit is not to be after all, what was moved aside goes back.
	undo := func(err error) error { return errors.Join(err, putBack(aside, home)) }
	for {
		between("commit: look")
		if err := mayWrite(outputDir, generation); err != nil {
			return undo(err)
		}
		between("commit: may write")
		err := moveNew(path, home)
		if err == nil {
			between("commit: moved")
			// One that came too late is not reported as saved. It stays, for what it is.
			return errors.Join(os.RemoveAll(aside), mayWrite(outputDir, generation))
		}
		if !errors.Is(err, fs.ErrExist) {
			return undo(err)
		}
		if err := setAside(outputDir, home, aside, generation); err != nil {
			return err
		}
	}
}

// setAside moves the checkpoint at home aside, unless it is of a later generation.
func setAside(outputDir, home, aside string, generation uint64) error {
	later := func(path string) error {
		if s, err := readState(path); err == nil && s.Generation > generation {
			return fmt.Errorf("%w: there is the checkpoint of generation %d, and this is generation %d", ErrSuperseded, s.Generation, generation)
		}
		return nil
	}
	if err := later(home); err != nil {
		return errors.Join(err, putBack(aside, home))
	}
	if err := os.RemoveAll(aside); err != nil { // somebody puts one there again and again
		return err
	}
	between("commit: set aside")
	if err := move(home, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	between("commit: is aside")
	if err := later(aside); err != nil { // it came after the look
		return errors.Join(err, putBack(aside, home))
	}
	return nil
}
