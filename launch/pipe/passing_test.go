package pipe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"
)

func TestPassing(t *testing.T) {
	for err, want := range map[error]bool{
		nil:                  false,
		errors.New("broken"): false,
		&fs.PathError{Op: "read", Path: "x", Err: syscall.EIO}:                                                                true,
		fmt.Errorf("checkpoint: %w", &os.LinkError{Op: "rename", Old: "a", New: "b", Err: syscall.ESTALE}):                    true,
		errors.Join(&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, errors.New("it was not removed")):             false,
		&fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}:                                                             false,
		&os.SyscallError{Syscall: "fork/exec", Err: syscall.EAGAIN}:                                                           true,
		fmt.Errorf("%w and %w", errors.New("wrong input"), &fs.PathError{Op: "open", Path: "shards", Err: syscall.ETIMEDOUT}): true,
	} {
		if got := Passing(err); got != want {
			t.Errorf("%v: %t", err, got)
		}
	}
}
