package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

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
	// Confirm, if given, is called when everything is on the disk but not yet in place. It returns nil if the checkpoint
	// counts: all ranks agree and no later generation has begun.
	Confirm func(context.Context) error
}

// Save writes OutputDir/checkpoint-<step>. On an error, which names the file, everything is as it was: what was written
// is removed and the earlier checkpoints are untouched. A checkpoint of the same step is replaced: it is set aside
// complete until the new one is in place, and a crash in between ends in Clean putting it back.
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
	return syncPath(path)
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

// commit puts a written checkpoint into place.
func commit(outputDir, path, name string, generation uint64) error {
	home := filepath.Join(outputDir, name)
	err := move(path, home)
	if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return err
	}
	aside, err := scratch(outputDir, kindReplaced, generation, name)
	if err != nil {
		return err
	}
	if err := move(home, aside); err != nil {
		return err
	}
	if err := move(path, home); err != nil {
		return errors.Join(err, move(aside, home))
	}
	return os.RemoveAll(aside)
}
