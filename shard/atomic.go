package shard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockName  = ".lock"
	tmpPrefix = ".tmp-"
	lockPoll  = 50 * time.Millisecond
)

// thisHost names this machine as long as it runs: what a process of its own has left behind, as opposed to that of another node on
// the same file system, is told apart by it.
var thisHost = sync.OnceValue(func() string {
	name, err := os.Hostname()
	if err != nil {
		name = "unknown"
	}
	name = strings.Map(func(r rune) rune {
		if strings.ContainsRune("/\\*?[]", r) || r <= ' ' {
			return '_'
		}
		return r
	}, name)
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return name[:min(len(name), 64)] + "-" + string(boot[:min(len(boot), 8)])
})

// lockDir takes the directory's lock, which the kernel gives back when the process
// ends, however it ends. While another process holds it, lockDir waits until ctx ends;
// it calls waiting, unless that is nil, before it begins to wait.
func lockDir(ctx context.Context, dir string, waiting func()) (unlock func(), err error) {
	return lockFile(ctx, filepath.Join(dir, lockName), waiting)
}

func lockFile(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("shard: lock %s: %w", filepath.Dir(path), err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("shard: lock %s: %w", path, err)
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("shard: wait for the lock %s: %w", path, ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}

// cleanTemporary removes what a killed process left half-written. The caller holds
// the directory's lock, so nobody else is writing there.
func cleanTemporary(dir string) error { return removeAll(dir, tmpPrefix) }

// removeAll removes what begins with prefix in dir.
func removeAll(dir, prefix string) error { return removeBut(dir, prefix, "") }

// removeBut is removeAll, but for names that hold kept; empty: none does.
func removeBut(dir, prefix, kept string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("shard: %w", err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), prefix) && (kept == "" || !strings.Contains(entry.Name(), kept)) {
			if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
				return fmt.Errorf("shard: remove what an earlier run left: %w", err)
			}
		}
	}
	return nil
}

// writeFileAtomic writes a file whole or not at all. fill is given a temporary file
// beside it, which is synced and renamed when fill returns nil.
func writeFileAtomic(path string, fill func(f *os.File) error) error {
	return writeFileAs(thisHost(), path, fill)
}

// writeFileAs names the temporary file by a host, so that another host's are left alone where several work.
func writeFileAs(host, path string, fill func(f *os.File) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, tmpPrefix+host+"-"+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	err = fill(f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
