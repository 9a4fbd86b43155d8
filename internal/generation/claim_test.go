package generation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

func record(n int, who string) []byte {
	return fmt.Appendf(nil, `{"generation": %d, "coordinator": %q}`, n, who)
}

// claim wants Claim not to fail.
func claimed(t *testing.T, dir string, n int, who string) bool {
	t.Helper()
	won, err := Claim(dir, n, record(n, who))
	if err != nil {
		t.Fatal(err)
	}
	return won
}

func wantHighest(t *testing.T, dir string, n int, content []byte) {
	t.Helper()
	got, data, err := Highest(dir)
	if err != nil || got != n || string(data) != string(content) {
		t.Errorf("highest is %d %s (%v), want %d %s", got, data, err, n, content)
	}
}

// noTemporary wants nothing of claims under way to be left.
func noTemporary(t *testing.T, dir string) {
	t.Helper()
	h, err := Look(dir)
	if err != nil || len(h.claims) > 0 {
		t.Errorf("left: %v (%v)", h.claims, err)
	}
}

func TestClaimIsWonOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	wantHighest(t, dir, -1, nil)
	if !claimed(t, dir, 0, "a") {
		t.Error("nobody has claimed 0, and it was lost")
	}
	wantHighest(t, dir, 0, record(0, "a"))
	if claimed(t, dir, 0, "b") {
		t.Error("0 was won twice")
	}
	if !claimed(t, dir, 7, "b") {
		t.Error("a number may be passed over")
	}
	if claimed(t, dir, 3, "c") {
		t.Error("3 was won below 7")
	}
	wantHighest(t, dir, 7, record(7, "b"))
	noTemporary(t, dir)
	for n, want := range map[int]bool{0: true, 6: true, 7: false, 8: false} {
		if by, ok, err := Superseded(dir, n); err != nil || ok != want || by != 7 {
			t.Errorf("%d is superseded: %v by %d (%v)", n, ok, by, err)
		}
	}
}

func TestClaimRefusesARecordOfAnotherNumber(t *testing.T) {
	dir := t.TempDir()
	for _, content := range []string{`{"generation": 4}`, `{}`, `{"generation": `, ``, `{"generation": 3, "x": "` + strings.Repeat("x", maxRecordBytes) + `"}`} {
		if won, err := Claim(dir, 3, []byte(content)); err == nil || won {
			t.Errorf("%.40s was taken", content)
		}
	}
}

// race has many claim each number at once, and wants one winner each, whose record it is.
func race(t *testing.T, numbers int) {
	dir := t.TempDir()
	for n := range numbers {
		var winners atomic.Int64
		var group sync.WaitGroup
		var winner string
		for i := range 16 {
			group.Go(func() {
				who := fmt.Sprint("agent ", i)
				won, err := Claim(dir, n, record(n, who))
				if err != nil {
					t.Error(err)
				}
				if won {
					winners.Add(1)
					winner = who
				}
			})
		}
		group.Wait()
		if winners.Load() != 1 {
			t.Fatalf("generation %d has %d winners", n, winners.Load())
		}
		wantHighest(t, dir, n, record(n, winner))
	}
	noTemporary(t, dir)
}

func TestOneOfManyWins(t *testing.T) { race(t, 20) }

// replace sets a variable until the test ends.
func replace[T any](t *testing.T, variable *T, value T) {
	old := *variable
	*variable = value
	t.Cleanup(func() { *variable = old })
}

func TestWithoutLinks(t *testing.T) {
	for _, no := range []error{syscall.EPERM, syscall.ENOTSUP, syscall.ENOSYS, syscall.EINVAL} {
		t.Run(no.Error(), func(t *testing.T) {
			replace(t, &link, func(string, string) error { return &os.LinkError{Op: "link", Err: no} })
			race(t, 5)
		})
	}
	t.Run("nor renameat2", func(t *testing.T) {
		replace(t, &link, func(string, string) error { return syscall.EPERM })
		replace(t, &rename, func(string, string) error { return syscall.EINVAL })
		race(t, 5)
	})
}

func TestAnAnswerThatIsLost(t *testing.T) {
	for _, says := range []error{syscall.EEXIST, syscall.EIO, syscall.ETIMEDOUT} {
		dir := t.TempDir()
		replace(t, &link, func(from, to string) error {
			if err := os.Link(from, to); err != nil {
				return err
			}
			return &os.LinkError{Op: "link", Err: says}
		})
		if !claimed(t, dir, 0, "a") {
			t.Errorf("%v: the link was made, and the claim counts as lost", says)
		}
		replace(t, &link, os.Link)
		if claimed(t, dir, 0, "b") {
			t.Error("0 was won twice")
		}
	}
}

func TestAClaimThatIsNotKnown(t *testing.T) {
	dir := t.TempDir()
	replace(t, &link, func(string, string) error { return syscall.EIO })
	if _, err := Claim(dir, 0, record(0, "a")); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v", err)
	}
	wantHighest(t, dir, -1, nil)
}

// A claimant that is stopped at any point, while others go on, never believes that it has won behind their back, and none finds half a record.
func TestAClaimantThatIsOvertaken(t *testing.T) {
	for _, noLinks := range []bool{false, true} {
		for _, at := range []string{"claim: written", "claim: reserved", "claim: made"} {
			t.Run(fmt.Sprint(at, " no links: ", noLinks), func(t *testing.T) {
				dir := t.TempDir()
				if noLinks {
					replace(t, &link, func(string, string) error { return syscall.EPERM })
				}
				stopped := false
				replace(t, &hook, func(name string) {
					if name != at || stopped {
						return
					}
					stopped = true
					if !claimed(t, dir, 6, "b") {
						t.Error("6 was lost to nobody")
					}
				})
				if won := claimed(t, dir, 5, "a"); won && stopped {
					t.Error("5 was won although 6 is claimed")
				}
				if stopped {
					wantHighest(t, dir, 6, record(6, "b"))
				}
				noTemporary(t, dir)
			})
		}
	}
}

// A crash leaves a number free, or used with the whole record, or used without one; the next one always goes on.
func TestACrashInAClaim(t *testing.T) {
	type crash struct{}
	for _, noLinks := range []bool{false, true} {
		for _, at := range []string{"claim: written", "claim: reserved", "claim: made"} {
			t.Run(fmt.Sprint(at, " no links: ", noLinks), func(t *testing.T) {
				dir := t.TempDir()
				if noLinks {
					replace(t, &link, func(string, string) error { return syscall.EPERM })
				}
				if !claimed(t, dir, 0, "a") {
					t.Fatal("lost")
				}
				replace(t, &hook, func(name string) {
					if name == at {
						panic(crash{})
					}
				})
				func() {
					defer func() { recover() }()
					Claim(dir, 1, record(1, "dead"))
				}()
				replace(t, &hook, func(string) {})
				if n, content, err := Highest(dir); err != nil || n == 1 && string(content) != string(record(1, "dead")) {
					t.Errorf("highest is %d %s (%v)", n, content, err)
				}
				next, err := Next(dir, "")
				if err != nil || !claimed(t, dir, next, "b") {
					t.Errorf("%d cannot be claimed (%v)", next, err)
				}
				wantHighest(t, dir, next, record(next, "b"))
			})
		}
	}
}

func TestTemporariesOfTheDeadAreRemoved(t *testing.T) {
	dir := t.TempDir()
	claimed(t, dir, 0, "a")
	left := filepath.Join(dir, privateDir, "claim-0-123")
	if err := os.WriteFile(left, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	claimed(t, dir, 1, "a")
	noTemporary(t, dir)
}

func TestOldRecordsAreRemovedAndTheRuleStays(t *testing.T) {
	dir := t.TempDir()
	const last = keptRecords + 20
	for n := range last + 1 {
		if !claimed(t, dir, n, "a") {
			t.Fatal("lost")
		}
		if err := Begin(dir, n, int64(10*n), Run{}); err != nil {
			t.Fatal(err)
		}
	}
	h, err := Look(dir)
	if err != nil || len(h.records) > keptRecords+1 {
		t.Errorf("%d records are left (%v)", len(h.records), err)
	}
	if h.Counts(3, 41) || !h.Counts(3, 40) {
		t.Error("the start of generation 4, whose record is removed, is forgotten")
	}
	wantHighest(t, dir, last, record(last, "a"))
}

func TestARecordThatCannotBeRead(t *testing.T) {
	for _, content := range []string{"", "{", `{"generation": 5}`, strings.Repeat(" ", maxRecordBytes+1)} {
		dir := t.TempDir()
		claimed(t, dir, 4, "a")
		if err := os.WriteFile(recordPath(dir, 4), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		_, _, err := Highest(dir)
		if err == nil || !strings.Contains(err.Error(), recordPath(dir, 4)) || !strings.Contains(err.Error(), "delete it") {
			t.Errorf("%.20q: got %v", content, err)
		}
	}
}

func TestNoDirectory(t *testing.T) {
	if _, err := Look(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Look(file); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file: %v", err)
	}
}
