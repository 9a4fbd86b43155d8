package generation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// keptRecords is how many records stay. Older ones are for people alone: the rule of what counts needs only the starts, which stay.
const keptRecords = 100

// maxRecordBytes bounds a record: 1,024 nodes take a fifth of it.
const maxRecordBytes = 1 << 20

func recordPath(outputDir string, n int) string {
	return filepath.Join(outputDir, privateDir, "generation-"+strconv.Itoa(n))
}

// Claim makes the record of generation n, a JSON object whose "generation" is n, if nobody has claimed that number or a higher one. Of any number of
// processes on any number of nodes at most one wins. The record appears complete or not at all, and is on the disk when Claim returns. After an error
// it is not known whether it was won: look at Highest.
func Claim(outputDir string, n int, record []byte) (won bool, err error) {
	fail := func(err error) (bool, error) {
		return false, fmt.Errorf("claim generation %d in %s: %w", n, outputDir, err)
	}
	if err := check(n, record); err != nil {
		return fail(err)
	}
	dir := filepath.Join(outputDir, privateDir)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fail(err)
	}
	if h, err := Look(outputDir); err != nil {
		return fail(err)
	} else if h.highest >= n {
		return false, nil
	}
	temporary, err := writeTemporary(dir, fmt.Sprintf("claim-%d-*", n), record)
	if err != nil {
		return fail(err)
	}
	defer os.Remove(temporary) // whatever becomes of it, a later claim removes what is left
	hook("claim: written")
	if won, err = publish(temporary, recordPath(outputDir, n)); err != nil {
		// Who has claimed a later number has removed this one's temporary file.
		if h, e := Look(outputDir); e == nil && h.highest > n {
			return false, nil
		}
		return fail(err)
	} else if !won {
		return false, nil
	}
	hook("claim: made")
	if err := Sync(dir); err != nil {
		return fail(err)
	}
	// Another may have passed over this number meanwhile, knowing of it from a log or a checkpoint: then this one is used and lost.
	h, err := Look(outputDir)
	if err != nil {
		return fail(err)
	}
	if h.highest > n {
		return false, nil
	}
	tidy(outputDir, n, h)
	return true, nil
}

// check refuses a record that Highest would not take.
func check(n int, record []byte) error {
	var content struct {
		Generation *int `json:"generation"`
	}
	if err := json.Unmarshal(record, &content); err != nil {
		return err
	}
	if content.Generation == nil || *content.Generation != n {
		return fmt.Errorf(`its "generation" is not %d`, n)
	}
	if len(record) > maxRecordBytes {
		return fmt.Errorf("the record has %d bytes, more than %d", len(record), maxRecordBytes)
	}
	return nil
}

// Calls of the system that tests make fail.
var (
	link   = os.Link
	rename = func(from, to string) error {
		return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	}
	hook = func(string) {}
)

// publish gives a complete file its name, if nobody has taken it.
func publish(temporary, path string) (bool, error) {
	err := link(temporary, path)
	if err == nil {
		return true, nil
	}
	// A network file system may have lost the answer, and answer its own second try with "exists": the file itself knows.
	if same(temporary, path) {
		return true, nil
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return false, nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
		return publishWithoutLink(temporary, path) // no links here: vfat, some FUSE and network file systems
	}
	return false, err
}

// publishWithoutLink makes a second file exclusively, and who has made that renames the complete record: a crash in between leaves a
// number that is used and has no record, and no half of one.
func publishWithoutLink(temporary, path string) (bool, error) {
	f, err := os.OpenFile(path+".claimed", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if err := f.Close(); err != nil {
		return false, err
	}
	hook("claim: reserved")
	if err = rename(temporary, path); errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		if _, e := os.Lstat(path); e == nil {
			return false, nil
		}
		err = os.Rename(temporary, path)
	}
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

func same(a, b string) bool {
	x, err1 := os.Lstat(a)
	y, err2 := os.Lstat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// tidy removes what nobody reads any more. What it cannot remove stays until the next claim.
func tidy(outputDir string, n int, h History) {
	for _, c := range h.claims {
		if c.generation < n {
			os.Remove(c.path)
		}
	}
	slices.Sort(h.records)
	for i := 0; i < len(h.records)-keptRecords; i++ {
		os.Remove(recordPath(outputDir, h.records[i]))
		os.Remove(recordPath(outputDir, h.records[i]) + ".claimed")
	}
}

// Highest returns the highest record, -1 where there is none.
func Highest(outputDir string) (n int, record []byte, err error) {
	h, err := Look(outputDir)
	if err != nil || len(h.records) == 0 {
		return -1, nil, err
	}
	n = slices.Max(h.records)
	path := recordPath(outputDir, n)
	record, err = readFile(path)
	if err == nil {
		err = check(n, record)
	}
	if err != nil {
		return -1, nil, fmt.Errorf("%s, the record of the newest generation, cannot be read: %w: when no ddprun of this run is left, delete it; "+
			"the next start goes on from the newest checkpoint", path, err)
	}
	return n, record, nil
}

// readFile reads a file of at most maxRecordBytes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecordBytes+1))
	if err == nil && len(data) > maxRecordBytes {
		err = fmt.Errorf("it has more than %d bytes", maxRecordBytes)
	}
	return data, err
}
