package launch

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ddprun/ddprun/launch/pipe"
)

// One rank is killed: the others end at once, whatever they do. A wait for their grace would outlast the test.
func TestOthersEndAtOnce(t *testing.T) {
	for name, others := range map[string]string{
		"others obey":         "set up; train",
		"others hang":         "set up; hang",
		"others are stopped":  fmt.Sprintf("set up; signal %d; hang", syscall.SIGSTOP),
		"others have a child": "child; set up; hang",
		"the hardest":         fmt.Sprintf("child; daemon; set up; signal %d; hang", syscall.SIGSTOP),
	} {
		t.Run(name, func(t *testing.T) {
			if name != "others obey" && name != "the hardest" {
				onlyInLongTests(t)
			}
			outcome, out, _ := runScripts(t, agentConfig{
				Scripts: scripts{{others, "get up; progress train 7 0; stamp; signal 9; hang"}}, NProc: 2, Grace: time.Hour}, nil)
			_, stamp, _ := strings.Cut(out, "stamp ")
			var death int64
			fmt.Sscan(stamp, &death)
			took := time.Since(time.Unix(0, death)) // Run has returned, and seen to it that nothing is left
			f := outcome.Failure
			if f == nil || f.Rank != 1 || f.Signal != syscall.SIGKILL || f.ExitCode != -1 || f.Phase != pipe.PhaseTrain || f.Step != 7 {
				t.Errorf("failure: %+v", f)
			}
			t.Logf("the others were gone after %v", took)
		})
	}
}

func TestErrorReportStopsOthersThoughItsRankHangs(t *testing.T) {
	outcome, _, _ := runScripts(t, agentConfig{Scripts: scripts{{"train", "progress evaluate 3 0; error out of memory; hang"}}, NProc: 2}, nil)
	f := outcome.Failure
	if f == nil || f.Rank != 1 || f.Message != "out of memory" || f.Phase != pipe.PhaseEvaluate || f.Step != 3 {
		t.Fatalf("failure: %+v", f)
	}
}

func TestRunsStoreJoinsTheRanksOfOneAttempt(t *testing.T) {
	// Were the second attempt to see the first one's key, rank 1 would not wait for rank 0's.
	outcome, _, _ := runScripts(t, agentConfig{Scripts: scripts{
		{"set k; train", "get k; exit 1"},
		{"sleep 300ms; set k; done", "get k; done"},
	}, NProc: 2, MaxRestarts: 1}, nil)
	if outcome.Code != ExitDone || outcome.Attempts != 2 {
		t.Fatalf("%+v", outcome)
	}
}

func TestTeeOfOneOutput(t *testing.T) {
	for tee, want := range map[Tee][2]string{TeeStdout: {"[rank 0] out\n", ""}, TeeStderr: {"", "[rank 0] err\n"}} {
		_, out, errOut := runScripts(t, agentConfig{Scripts: scripts{{`print out; raw "err\n"; done`}}, NProc: 1}, func(c *Config) { c.Tee = tee })
		if got := [2]string{out, errOut}; got != want {
			t.Errorf("tee %q shows %q", tee, got)
		}
	}
}
