package nodes

import (
	"fmt"
	"os"
	"slices"
	"testing"
)

// recorder is a test within a test, whose failure is kept: what several tests need is done once.
type recorder struct {
	testing.TB
	said     string
	cleanups []func()
}

type stopTest struct{}

func (r *recorder) Helper()          {}
func (r *recorder) Name() string     { return "recorder" }
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Error(args ...any) {
	r.said += fmt.Sprintln(args...)
}
func (r *recorder) Errorf(format string, args ...any) { r.Error(fmt.Sprintf(format, args...)) }
func (r *recorder) Fatal(args ...any) {
	r.Error(args...)
	panic(stopTest{})
}
func (r *recorder) Fatalf(format string, args ...any) { r.Fatal(fmt.Sprintf(format, args...)) }
func (r *recorder) Skipf(format string, args ...any)  { r.Fatal(fmt.Sprintf(format, args...)) }

func (r *recorder) TempDir() string {
	dir, err := os.MkdirTemp("", "ddprun-nodes-")
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// recover ends the panic of Fatal.
func (r *recorder) recover() {
	if p := recover(); p != nil && p != (stopTest{}) {
		panic(p)
	}
}

func (r *recorder) cleanUp() {
	for _, f := range slices.Backward(r.cleanups) {
		f()
	}
}
