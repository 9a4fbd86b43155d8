package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockName is the file below Config.OutputDir that an agent holds locked while it runs.
var lockName = filepath.Join(".ddprun", "lock")

// joinLockTime is how long the first agent of a run may hold the lock alone.
const joinLockTime = 2 * time.Second

// errInUse is the answer to an output directory in which another agent works.
var errInUse = errors.New("in use by another ddprun")

// lockOutput takes the output directory for a run until release: two runs there would prune each other's checkpoints and
// mix their metrics. A node alone locks it for itself, several nodes for the agents of their run. The lock is the kernel's (flock), so it goes
// with the process however that ends; the file stays. exclusive says that no other agent can be at work there. Where the file system has no
// locks, none is taken and warn is told.
func lockOutput(dir, runID string, shared bool, warn func(error)) (release func(), exclusive bool, err error) {
	path := filepath.Join(dir, lockName)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, false, fmt.Errorf("launch: output directory: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, false, fmt.Errorf("launch: lock the output directory: %w", err)
	}
	release = func() { f.Close() }
	err = flock(f, unix.LOCK_EX)
	switch {
	case err == nil:
		host, _ := os.Hostname()
		if err := f.Truncate(0); err == nil {
			fmt.Fprintf(f, "run %s, pid %d on %s\n", runID, os.Getpid(), host) // a full disk does not keep the run from its lock
		}
		if shared {
			err = flock(f, unix.LOCK_SH)
		}
		return release, !shared, err
	case errors.Is(err, unix.EWOULDBLOCK) && shared:
		err = joinLock(f, runID)
	}
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		holder, _ := io.ReadAll(io.NewSectionReader(f, 0, 200)) // a help for people, no more
		f.Close()
		return nil, false, fmt.Errorf("launch: output directory %s is %w (%s): wait for its end or stop it, or choose another output_dir",
			dir, errInUse, strings.TrimSpace(string(holder)))
	case err != nil:
		f.Close()
		warn(fmt.Errorf("lock %s: %w", path, err))
		return func() {}, false, nil
	}
	return release, false, nil
}

// joinLock shares the lock of this run's other agents; EWOULDBLOCK: another run has it.
func joinLock(f *os.File, runID string) error {
	for end := time.Now().Add(joinLockTime); ; time.Sleep(20 * time.Millisecond) {
		err := flock(f, unix.LOCK_SH) // whoever is first holds it alone for a moment
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			return err
		}
	}
	holder, err := io.ReadAll(io.NewSectionReader(f, 0, 4096))
	if err == nil && !strings.HasPrefix(string(holder), "run "+runID+",") {
		err = unix.EWOULDBLOCK
	}
	return err
}

// flock locks f (LOCK_EX or LOCK_SH), or says EWOULDBLOCK at once.
func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}
