package launch

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		name     string
		scripts  scripts
		restarts int
		code     int
		attempts int
	}{
		{"all done", scripts{{"done"}}, 3, ExitDone, 1},
		{"one is done before the other", scripts{{"done", "sleep 300ms; done"}}, 0, ExitDone, 1},
		{"all come again", scripts{{"exit 75"}}, 3, ExitComeAgain, 1},
		{"done without saying so", scripts{{"exit 0", "done"}}, 0, ExitFailed, 1},
		{"failed, no restarts", scripts{{"train", "exit 3"}}, 0, ExitFailed, 1},
		{"crashed", scripts{{"signal 11; hang", "train"}}, 0, ExitFailed, 1},
		{"wrong configuration is not tried again", scripts{{"train", "exit 78"}}, 3, ExitConfig, 1},
		{"the echo of a wrong configuration", scripts{{"get up; echo lost peer; exit 1", "set up; sleep 300ms; exit 78"}}, 3, ExitConfig, 1},
		{"permanent failure is not tried again", scripts{{"permanent loss is NaN; exit 1", "train"}}, 3, ExitFailed, 1},
		{"a restart mends it", scripts{{"train", "exit 1"}, {"done"}}, 1, ExitDone, 2},
		{"restarts used up", scripts{{"exit 1"}}, 1, ExitFailed, 2},
		{"no progress", scripts{{"exit 1"}}, 9, ExitNoProgress, 3},
		{"resuming is no progress", scripts{{"progress setup 0 10; progress train 12 10; exit 1"}}, 9, ExitNoProgress, 3},
		{"progress counts anew", scripts{
			{"exit 1"}, {"exit 1"}, {"progress setup 0 0; progress train 12 10; exit 1"},
			{"exit 1"}, {"done"},
		}, 9, ExitDone, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			outcome, out, errOut := runScripts(t, agentConfig{Scripts: c.scripts, NProc: 2, MaxRestarts: c.restarts}, nil)
			if outcome.Code != c.code || outcome.Attempts != c.attempts {
				t.Errorf("exit code %d after %d attempts; want %d after %d\n%s%s",
					outcome.Code, outcome.Attempts, c.code, c.attempts, out, errOut)
			}
			if (outcome.Failure == nil) != (c.code == ExitDone || c.code == ExitComeAgain) {
				t.Errorf("failure %v with exit code %d", outcome.Failure, outcome.Code)
			}
		})
	}
}

func TestContextEndsTheRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	a := agentConfig{Scripts: scripts{{"hang"}}, NProc: 2, RunID: "test-" + randomHex(8), MaxRestarts: 3}
	outcome, err := Run(ctx, a.config())
	if !errors.Is(err, context.DeadlineExceeded) || outcome.Code != ExitFailed || outcome.Attempts != 1 {
		t.Errorf("%+v %v", outcome, err)
	}
	if pids := left(a.RunID); len(pids) > 0 {
		t.Errorf("processes %v are left", pids)
	}
}

func TestOneRunAtATime(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Run(ctx, agentConfig{Scripts: scripts{{"hang"}}, NProc: 1}.config())
	}()
	waitFor(t, 5*time.Second, "an active run", active.Load, func() string { return "" })
	if _, err := Run(context.Background(), agentConfig{Scripts: scripts{{"done"}}, NProc: 1}.config()); err == nil {
		t.Error("two runs at a time")
	}
	cancel()
	<-ended
}
