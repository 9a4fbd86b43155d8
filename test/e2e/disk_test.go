package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/test/kit"
)

// weights reads a model's tensors.
func (w *workspace) weights(dir string) []hf.Tensor {
	w.t.Helper()
	weights, err := hf.Open(w.path(dir))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { weights.Close() })
	var all []hf.Tensor
	for _, name := range weights.Names() {
		tensor, _ := weights.Tensor(name)
		all = append(all, tensor)
	}
	return all
}

// The disk fills up while a checkpoint is written: the run ends with an error that names the file, the checkpoints before are whole,
// and with room again the same command goes on as if nothing had been.
func TestFullDisk(t *testing.T) {
	w := newWorkspace(t, 33)
	set := settings{"max_steps": 40, "save_steps": 2}
	w.config("train.yaml", set)
	w.run("--set", "output_dir=whole", "train.yaml").want(t, 0)
	if err := os.Mkdir(w.path("out"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", w.path("out"), "tmpfs", 0, "size=2m"); errors.Is(err, syscall.EPERM) {
		t.Skip("a small file system needs the right to mount one")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(w.path("out"), syscall.MNT_DETACH) })
	r := w.run("--nproc", "1", "--max-restarts", "3", "train.yaml")
	r.want(t, 1, "was not saved", "out/.ddprun/save-", "no space left on device", "a restart would fail the same way")
	kept, _ := filepath.Glob(w.path("out/checkpoint-*"))
	if len(kept) < 2 {
		t.Fatalf("the disk was full before a second checkpoint: %q", kept)
	}
	if scraps, _ := filepath.Glob(w.path("out/.ddprun/save-*")); len(scraps) > 0 {
		t.Errorf("half a checkpoint takes up the room: %q", scraps)
	}
	if err := syscall.Mount("none", w.path("out"), "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	w.run("train.yaml").want(t, 0, "resuming", filepath.Base(newest(kept)))
	if w.read("out/model.safetensors") != w.read("whole/model.safetensors") {
		t.Error("the weights are not those of the run whose disk was never full")
	}
	sameSteps(t, w.steps("whole", 40), w.steps("out", 40))
}

// newest is the checkpoint of the highest step.
func newest(checkpoints []string) (last string) {
	for _, path := range checkpoints {
		if len(path) > len(last) || len(path) == len(last) && path > last {
			last = path
		}
	}
	return last
}

// The same by a limit on the size of files, which needs no rights.
func TestFileTooLarge(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, 33)
	w.config("train.yaml", settings{"max_steps": 12, "save_steps": 4})
	w.run("--set", "output_dir=whole", "train.yaml").want(t, 0)
	p := w.start("train.yaml")
	p.until("a checkpoint", func() bool {
		_, err := os.Stat(w.path("out/checkpoint-4"))
		return err == nil
	})
	p.signal(syscall.SIGKILL)
	p.wait()
	saved, _ := filepath.Glob(w.path("out/checkpoint-*"))
	if len(saved) == 3 {
		t.Skip("the run was at its end before it could be killed")
	}
	// The weights fit into 120 kB, the optimizer's moments don't.
	limited := w.startProgram("/bin/bash", "-c", `ulimit -f 120; exec "$0" "$@"`, filepath.Join(binDir, "ddprun"), "--nproc", "2", "train.yaml")
	limited.wait().want(t, 1, "was not saved", "optimizer.safetensors", "file too large")
	w.run("train.yaml").want(t, 0, "resuming", filepath.Base(newest(saved)))
	if w.read("out/model.safetensors") != w.read("whole/model.safetensors") {
		t.Error("the weights are not those of the run that could always write")
	}
}

// Text that cannot be prepared for want of room is no wrong input, and leaves nothing.
func TestNoRoomForShards(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, 33)
	w.write("text.txt", kit.Lines(1, 6000))
	w.config("train.yaml", nil)
	before := w.tree()
	limited := w.startProgram("/bin/bash", "-c", `ulimit -f 16; exec "$0" "$@"`, filepath.Join(binDir, "ddprun"), "train.yaml")
	r := limited.wait()
	r.want(t, 1, "file too large", "out/.ddprun/shards")
	w.sameTree(before)
	if strings.Contains(r.stderr, "goroutine ") {
		t.Errorf("the error is a stack:\n%s", r.stderr)
	}
}
