package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func failOnWarning(t *testing.T) func(error) {
	return func(err error) { t.Errorf("warned: %v", err) }
}

func TestOutputIsLockedForOneRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "runs", "first")
	release, exclusive, err := lockOutput(dir, "one", false, failOnWarning(t))
	if err != nil || !exclusive {
		t.Fatal(exclusive, err)
	}
	_, _, err = lockOutput(dir, "two", false, failOnWarning(t))
	if !errors.Is(err, errInUse) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d on ", os.Getpid())) {
		t.Errorf("the second lock: %v", err)
	}
	c := agentConfig{Scripts: scripts{{"done"}}, NProc: 1, RunID: "test-" + randomHex(8)}.config()
	c.OutputDir = dir
	if outcome, err := Run(context.Background(), c); outcome.Code != ExitConfig || !errors.Is(err, errInUse) || outcome.Attempts != 0 {
		t.Errorf("a run in a locked directory: %+v %v", outcome, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "logs")); !os.IsNotExist(err) {
		t.Errorf("the refused run made its logs: %v", err)
	}
	release()
	if outcome, err := Run(context.Background(), c); outcome.Code != ExitDone || err != nil {
		t.Errorf("a run after the other's end: %+v %v", outcome, err)
	}
	release, _, err = lockOutput(dir, "one", false, failOnWarning(t))
	if err != nil {
		t.Fatalf("after the run's end: %v", err)
	}
	release()
}

func TestOutputThatCannotBeLocked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, _, err := lockOutput(file, "one", false, failOnWarning(t)); err == nil || errors.Is(err, errInUse) || !strings.Contains(err.Error(), file) {
		t.Errorf("a file as output directory: %v", err)
	}
}

func TestOutputIsSharedByTheAgentsOfOneRun(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		release, exclusive, err := lockOutput(dir, "one", true, failOnWarning(t))
		if err != nil || exclusive {
			t.Fatal(exclusive, err)
		}
		defer release()
	}
	for _, shared := range []bool{true, false} {
		if _, _, err := lockOutput(dir, "two", shared, failOnWarning(t)); !errors.Is(err, errInUse) || !strings.Contains(err.Error(), "run one") {
			t.Errorf("another run, shared %v: %v", shared, err)
		}
	}
}
