package nodes

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// witness is a test whose failures are told once more after all tests: above hundreds of lines nobody finds them.
type witness struct{ testing.TB }

var failures struct {
	mu   sync.Mutex
	told []string
}

func (w witness) Errorf(format string, args ...any) {
	w.Helper()
	w.note(fmt.Sprintf(format, args...))
	w.TB.Errorf(format, args...)
}

func (w witness) Fatalf(format string, args ...any) {
	w.Helper()
	w.note(fmt.Sprintf(format, args...))
	w.TB.Fatalf(format, args...)
}

func (w witness) Fatal(args ...any) {
	w.Helper()
	w.note(fmt.Sprintln(args...))
	w.TB.Fatal(args...)
}

// note keeps a message: its first line, and the newest of the log that follows.
func (w witness) note(message string) {
	const newest = 60
	lines := strings.Split(strings.TrimSpace(message), "\n")
	if left := len(lines) - 1 - newest; left > 0 {
		lines = append([]string{lines[0], fmt.Sprintf("(%d lines left out)", left)}, lines[1+left:]...)
	}
	failures.mu.Lock()
	defer failures.mu.Unlock()
	failures.told = append(failures.told, w.Name()+": "+strings.Join(lines, "\n  "))
}

func printFailures() {
	for _, failure := range failures.told {
		fmt.Println("FAILED", failure)
	}
}
