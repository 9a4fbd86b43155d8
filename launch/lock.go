package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockName is the file below Config.OutputDir that an agent holds locked while it runs.
var lockName = filepath.Join(".ddprun", "lock")

// errInUse is the answer to an output directory in which another agent works.
var errInUse = errors.New("in use by another ddprun")

// lockOutput takes the output directory for this process until release: two runs there would prune each other's checkpoints and
// mix their metrics. The lock is the kernel's (flock), so it goes with the process however that ends; the file stays. Where the
// file system has no locks, none is taken and warn is told.
func lockOutput(dir string, warn func(error)) (release func(), err error) {
	path := filepath.Join(dir, lockName)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, fmt.Errorf("launch: output directory: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, fmt.Errorf("launch: lock the output directory: %w", err)
	}
	switch err := flock(f); {
	case errors.Is(err, unix.EWOULDBLOCK):
		holder, _ := io.ReadAll(io.LimitReader(f, 200)) // a help for people, no more
		f.Close()
		return nil, fmt.Errorf("launch: output directory %s is %w (%s): wait for its end or stop it, or choose another output_dir",
			dir, errInUse, strings.TrimSpace(string(holder)))
	case err != nil:
		f.Close()
		warn(fmt.Errorf("lock %s: %w", path, err))
		return func() {}, nil
	}
	host, _ := os.Hostname()
	if err := f.Truncate(0); err == nil {
		fmt.Fprintf(f, "pid %d on %s\n", os.Getpid(), host) // a full disk does not keep the run from its lock
	}
	return func() { f.Close() }, nil
}

// flock locks f for this process alone, or says EWOULDBLOCK at once.
func flock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}
