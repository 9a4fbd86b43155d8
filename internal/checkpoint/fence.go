package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ddprun/ddprun/internal/generation"
)

// ErrSuperseded: a later generation of the run has been claimed, so this one writes nothing any more.
var ErrSuperseded = errors.New("another generation has taken over")

// mayWrite is an error of kind ErrSuperseded once a later generation than g is claimed.
func mayWrite(outputDir string, g uint64) error {
	by, lost, err := generation.Superseded(outputDir, number(g))
	if err == nil && lost {
		err = fmt.Errorf("%w: generation %d of this run is claimed, and this is generation %d", ErrSuperseded, by, g)
	}
	return err
}

// number is a generation as package generation counts it.
func number(g uint64) int { return int(min(g, math.MaxInt)) }

// Between a look at the claims and the operation that it allows, a process may be stopped for any time, and a later generation may have come and
// gone meanwhile. So each operation below is one that does no harm then, or whose harm is seen by what it has moved, and undone:
//
//   - a rename to a name that is free: readers ignore a checkpoint that does not count, and a model or a log is put there only where there was none;
//   - an exchange, or a move aside: what came out must be what was there before the look, and for a checkpoint of no later generation. Else it goes back.
//
// between is called between any two operations; tests stop a process there.
var between = func(string) {}

// underWay is held while something may have to be undone.
var underWay sync.RWMutex

// Quiesce waits, at most for limit, until no operation is under way that might have to be undone, and keeps others from beginning until release is called. A process that must end
// at once calls it before it does.
func Quiesce(limit time.Duration) (release func()) {
	locked := make(chan struct{})
	go func() {
		underWay.Lock()
		close(locked)
	}()
	select {
	case <-locked:
	case <-time.After(limit):
	}
	return func() {
		<-locked
		underWay.Unlock()
	}
}

// exchange swaps two files of a file system atomically. unix.EINVAL where it cannot (NFS).
var exchange = func(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

// moveNew moves a file, or a directory that is not empty, to a name that must be free: fs.ErrExist where it is not.
func moveNew(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		if err := os.Rename(from, to); errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) { // rename(2) replaces none that holds anything
			return fmt.Errorf("%s: %w", to, fs.ErrExist)
		} else if err != nil {
			return err
		}
		return errors.Join(generation.Sync(filepath.Dir(to)), generation.Sync(filepath.Dir(from)))
	}
	err = unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		if err = os.Link(from, to); err == nil {
			err = os.Remove(from)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", to, err)
	}
	return errors.Join(generation.Sync(filepath.Dir(to)), generation.Sync(filepath.Dir(from)))
}

// putBack returns what was moved aside to its name. Where somebody has put another thing there meanwhile, that one stays, and the earlier one is removed.
func putBack(aside, home string) error {
	err := moveNew(aside, home)
	if errors.Is(err, fs.ErrExist) {
		return os.RemoveAll(aside)
	} else if errors.Is(err, fs.ErrNotExist) { // Clean has put it back
		return nil
	}
	return err
}

// NewFile returns where generation g makes a file that Replace then puts in place of outputDir's file name. Nothing lies there yet.
func NewFile(outputDir string, g uint64, name string) (string, error) {
	return scratch(outputDir, kindSave, g, fileScratch(name))
}

// Remove removes outputDir's file name for generation g. It is refused with ErrSuperseded once a later generation is claimed.
func Remove(outputDir string, g uint64, name string) error { return discard(outputDir, name, g) }

// Replace puts the file at path, which it takes over, in place of outputDir's file name, for generation g: a reader finds the one or the other. It is refused with
// ErrSuperseded once a later generation is claimed.
func Replace(outputDir string, g uint64, path, name string) error {
	home := filepath.Join(outputDir, name)
	if err := generation.Sync(path); err != nil {
		return err
	}
	underWay.RLock()
	defer underWay.RUnlock()
	for {
		err := replace(outputDir, g, path, home, name)
		if !errors.Is(err, errAgain) {
			return err
		}
	}
}

// errAgain: what was to be replaced has come or gone between the look and the operation.
var errAgain = errors.New("it has changed meanwhile")

func replace(outputDir string, g uint64, path, home, name string) error {
	mine, err := os.Lstat(path)
	if err != nil {
		return err
	}
	before, err := hold(home)
	if err != nil {
		return err
	}
	defer before.release()
	if before != nil && before.info.IsDir() {
		return fmt.Errorf("%s: is a directory, where a file is to be", home)
	}
	between("replace: look")
	if err := mayWrite(outputDir, g); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	between("replace: may write")
	if before == nil {
		err := moveNew(path, home)
		if errors.Is(err, fs.ErrExist) {
			return errAgain
		}
		return err
	}
	err = exchange(path, home)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return replaceAside(outputDir, g, path, home, name, before)
	} else if errors.Is(err, fs.ErrNotExist) {
		return errAgain
	} else if err != nil {
		return err
	}
	between("replace: exchanged")
	if sameAs(path, before.info) {
		return errors.Join(generation.Sync(filepath.Dir(home)), os.Remove(path))
	}
	if err := undoExchange(path, home, mine); err != nil {
		return err
	}
	return afterUndo(outputDir, g, path)
}

// undoExchange gives the newer file that an exchange has brought to path its name back. Where that name has been given anew since, the newer file is out of date itself.
func undoExchange(path, home string, mine os.FileInfo) error {
	if !sameAs(home, mine) {
		return nil
	}
	between("replace: undo")
	if err := exchange(path, home); err != nil {
		return err
	}
	between("replace: undone")
	if !sameAs(path, mine) { // given anew just now
		if err := exchange(path, home); err != nil {
			return err
		}
	}
	return generation.Sync(filepath.Dir(home))
}

// afterUndo ends a replacement that was undone. What is at path now is of no use, but for the one case that nobody has taken over.
func afterUndo(outputDir string, g uint64, path string) error {
	if err := mayWrite(outputDir, g); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return fmt.Errorf("%s was changed by somebody else while this generation replaced it", path)
}

// held is a file that is kept open, so that no later file gets its inode.
type held struct {
	f    *os.File
	info os.FileInfo
}

// hold returns the file at path; nil: there is none.
func hold(path string) (*held, error) {
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &held{f, info}, nil
}

func (h *held) release() {
	if h != nil {
		h.f.Close()
	}
}

// replaceAside is replace where files cannot be exchanged: for a moment nothing has the name. Clean undoes what a crash leaves of it.
func replaceAside(outputDir string, g uint64, path, home, name string, before *held) error {
	aside, err := scratch(outputDir, kindReplaced, g, fileScratch(name))
	if err != nil {
		return err
	}
	if err := move(home, aside); errors.Is(err, fs.ErrNotExist) {
		return errAgain
	} else if err != nil {
		return err
	}
	between("replace: aside")
	if !sameAs(aside, before.info) {
		if err := putBack(aside, home); err != nil {
			return err
		}
		return afterUndo(outputDir, g, path)
	}
	if err := moveNew(path, home); errors.Is(err, fs.ErrExist) {
		if err := os.Remove(aside); err != nil {
			return err
		}
		return errAgain
	} else if err != nil {
		return errors.Join(err, putBack(aside, home))
	}
	between("replace: moved")
	return os.Remove(aside)
}

// sameAs tells whether the file at path is the one that info describes.
func sameAs(path string, info os.FileInfo) bool {
	now, err := os.Lstat(path)
	return err == nil && os.SameFile(now, info)
}

// discard deletes a checkpoint, or a file, of the output directory for generation g, so that no half of it is ever found under its name. It goes aside first, and is deleted when a
// look at the claims after that finds none: whoever claims later no longer finds it.
func discard(outputDir, name string, g uint64) error {
	gone, err := giveUp(outputDir, name, g)
	if err != nil {
		return err
	}
	between("discard: gone")
	return os.RemoveAll(gone)
}

// giveUp is discard up to the deletion of what lies at gone then.
func giveUp(outputDir, name string, g uint64) (gone string, err error) {
	underWay.RLock()
	defer underWay.RUnlock()
	kind := name
	if !checkpointName.MatchString(name) {
		kind = fileScratch(name)
	}
	aside, err := scratch(outputDir, kindDelete, g, kind)
	if err != nil {
		return "", err
	}
	home := filepath.Join(outputDir, name)
	if err := mayWrite(outputDir, g); err != nil {
		return "", err
	}
	between("discard: may write")
	if err := move(home, aside); err != nil {
		return "", err
	}
	between("discard: aside")
	if err := mayWrite(outputDir, g); err != nil {
		return "", errors.Join(err, putBack(aside, home))
	}
	between("discard: may write still")
	if gone, err = scratch(outputDir, kindGone, g, kind); err != nil {
		return "", err
	}
	return gone, os.Rename(aside, gone)
}
