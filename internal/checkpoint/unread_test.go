package checkpoint

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// makeUnreadable has each reading of a file fail with EIO until the test's end, as on a file system that is not well.
func makeUnreadable(t *testing.T, path string) {
	t.Helper()
	err := syscall.Mount("/proc/self/mem", path, "", syscall.MS_BIND, "") // address 0 is nobody's
	if errors.Is(err, syscall.EPERM) {
		t.Skip("a file with I/O errors needs the right to mount one")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(path, syscall.MNT_DETACH) })
}

// What cannot be read is not damaged: it is neither passed over for an older checkpoint, which would give it up for good, nor deleted.
func TestUnreadIsNotDamaged(t *testing.T) {
	for _, file := range []string{stateFile, modelFile} {
		t.Run(file, func(t *testing.T) {
			out := scene(t, "10 20 30")
			makeUnreadable(t, filepath.Join(out, Name(30), file))
			newest, broken, err := Latest(context.Background(), out)
			if !errors.Is(err, syscall.EIO) || newest != nil || broken != nil || !strings.Contains(err.Error(), Name(30)) {
				t.Errorf("Latest: %+v, %v, %v", newest, broken, err)
			}
			if d, err := Decide(context.Background(), out, ResumeAuto, false); !errors.Is(err, syscall.EIO) {
				t.Errorf("Decide: %+v, %v", d, err)
			}
		})
	}
	t.Run("to be pruned", func(t *testing.T) {
		out := scene(t, "10 20 30")
		makeUnreadable(t, filepath.Join(out, Name(10), stateFile))
		if err := Prune(out, 2, 1); !errors.Is(err, syscall.EIO) {
			t.Errorf("Prune: %v", err)
		}
		if step, err := Newest(out); !errors.Is(err, syscall.EIO) {
			t.Errorf("Newest: %d, %v", step, err)
		}
		for _, step := range []int64{10, 20, 30} {
			if _, err := os.Stat(filepath.Join(out, Name(step), modelFile)); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("moved aside", func(t *testing.T) {
		out := scene(t, "10 20")
		aside, err := scratch(out, kindReplaced, 1, Name(20))
		if err == nil {
			err = os.Rename(filepath.Join(out, Name(20)), aside)
		}
		if err != nil {
			t.Fatal(err)
		}
		makeUnreadable(t, filepath.Join(aside, stateFile))
		if restored, err := Clean(out, 2); restored || !errors.Is(err, syscall.EIO) {
			t.Errorf("Clean: %t, %v", restored, err)
		}
		if err := syscall.Unmount(filepath.Join(aside, stateFile), 0); err != nil {
			t.Fatal(err)
		}
		if restored, err := Clean(out, 2); !restored || err != nil {
			t.Errorf("Clean, with the file system well again: %t, %v", restored, err)
		}
		if newest, _, err := Latest(context.Background(), out); err != nil || newest == nil || newest.State.Step != 20 {
			t.Errorf("Latest: %+v, %v", newest, err)
		}
	})
}
