package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ddprun/ddprun/launch/pipe"
)

// TestPatience looks at workers every half second.
func TestPatience(t *testing.T) {
	limits := Limits{Silence: 5 * time.Second, Setup: 60 * time.Second, Step: 10 * time.Second, Eval: 20 * time.Second, Checkpoint: 30 * time.Second}
	type life func(second float64, r *pipe.Report) (state byte)
	at := func(second float64) time.Time { return time.Unix(0, 0).Add(time.Duration(second * 1e9)) }
	beating := func(phase pipe.Phase, waiting bool) life {
		return func(second float64, r *pipe.Report) byte {
			r.Hello, r.Beat, r.Moved, r.Progress.Phase = &pipe.Hello{}, at(second), at(0), phase
			r.Latest = pipe.Beat{Activity: pipe.Activity{Doing: "sums", Waiting: waiting}}
			return 'S'
		}
	}
	for name, c := range map[string]struct {
		life  life
		found float64 // second; 0: never
		said  string
	}{
		"loading":              {func(float64, *pipe.Report) byte { return 'D' }, 60.5, "no progress for 1m0s (--setup-timeout)"},
		"hung in set-up":       {beating(pipe.PhaseSetup, false), 60.5, "no progress for 1m0s (--setup-timeout): sums"},
		"hung in a step":       {beating(pipe.PhaseTrain, false), 10.5, "no progress for 10s (--step-timeout): sums"},
		"hung in evaluation":   {beating(pipe.PhaseEvaluate, false), 20.5, "(--eval-timeout)"},
		"hung in a checkpoint": {beating(pipe.PhaseCheckpoint, false), 30.5, "(--checkpoint-timeout)"},
		"waiting for others":   {beating(pipe.PhaseTrain, true), 0, ""},
		"slow": {func(second float64, r *pipe.Report) byte {
			beating(pipe.PhaseTrain, false)(second, r)
			r.Moved = at(9.5 * float64(int(second/9.5)))
			return 'R'
		}, 0, ""},
		"silent": {func(second float64, r *pipe.Report) byte {
			beating(pipe.PhaseTrain, true)(min(second, 20), r) // its last word was that it waits
			return 'S'
		}, 25.5, "no sign of life for 5s (--silence-timeout)"},
		"beats late": {func(second float64, r *pipe.Report) byte {
			beating(pipe.PhaseTrain, true)(4.5*float64(int(second/4.5)), r)
			return 'R'
		}, 0, ""},
		"stopped": {func(second float64, r *pipe.Report) byte {
			beating(pipe.PhaseTrain, false)(min(second, 1), r)
			if second > 1 {
				return 'T'
			}
			return 'S'
		}, 4.5, "stopped by a signal"},
		"stopped while it loads": {func(float64, *pipe.Report) byte { return 'T' }, 3.5, "stopped by a signal"},
		"seen stopped, but it runs": {func(second float64, r *pipe.Report) byte { // as one that is stopped and continued all the time
			beating(pipe.PhaseTrain, true)(second, r)
			return 'T'
		}, 0, ""},
		"stopped and continued": {func(second float64, r *pipe.Report) byte {
			beating(pipe.PhaseTrain, true)(second, r)
			if int(second)%5 < 2 {
				return 'T'
			}
			return 'S'
		}, 0, ""},
	} {
		var p patience
		found, said := 0.0, ""
		for second := 0.5; second < 300 && said == ""; second += 0.5 {
			var r pipe.Report
			state := c.life(second, &r)
			if said = p.look(lookEvery, r, state, limits); said != "" {
				found = second
			}
		}
		if found != c.found && found != c.found+0.5 || !strings.Contains(said, c.said) {
			t.Errorf("%s: after %v s %q, want after %v s %q", name, found, said, c.found, c.said)
		}
	}
}

func TestTheAgentsOwnPauseIsNobodysFault(t *testing.T) {
	limits := Limits{Silence: 5 * time.Second, Step: 5 * time.Second}
	r := pipe.Report{Hello: &pipe.Hello{}, Beat: time.Unix(1, 0), Moved: time.Unix(1, 0), Progress: pipe.Progress{Phase: pipe.PhaseTrain}}
	var p patience
	for range 3 {
		if wrong := p.look(time.Hour, r, 'S', limits); wrong != "" {
			t.Fatal(wrong)
		}
	}
}

func TestWithoutLimitsNobodyIsAccused(t *testing.T) {
	r := pipe.Report{Hello: &pipe.Hello{}}
	var p patience
	for i := range 100000 {
		if wrong := p.look(lookEvery, r, "STD"[i%3], Limits{}); wrong != "" {
			t.Fatal(wrong)
		}
	}
}

// watched are limits for tests: a worker's beats come once a second.
var watched = Limits{Silence: 10 * time.Second, Setup: 10 * time.Second, Step: 1500 * time.Millisecond, Eval: 10 * time.Second, Checkpoint: 10 * time.Second}

// TestHungWorkerIsNamedWithItsStacks: rank 0 waits for rank 1, which hangs.
func TestHungWorkerIsNamedWithItsStacks(t *testing.T) {
	dir := t.TempDir()
	outcome, _, _ := runScripts(t, agentConfig{NProc: 2, LogDir: dir, Limits: watched, Scripts: scripts{{
		"progress train 7 0; activity all-reduce waiting; train",
		"print its last line; progress train 7 0; activity forward_and_backward stuck; hang"}}}, nil)
	f := outcome.Failure
	if f == nil || f.Rank != 1 || f.Phase != pipe.PhaseTrain || f.Step != 7 || f.Message != "no progress for 1.5s (--step-timeout): forward and backward" {
		t.Fatalf("failure: %+v", f)
	}
	if len(f.LastLines) != 1 || f.LastLines[0] != "its last line" {
		t.Errorf("last lines %q", f.LastLines)
	}
	for rank, call := range []string{"testWorker", "testCommand"} {
		log, _ := os.ReadFile(filepath.Join(dir, "attempt_0", fmt.Sprint(rank), "stderr.log"))
		for _, want := range []string{"==== stacks of rank", "phase train, step 7", "goroutine 1 [", call} {
			if !strings.Contains(string(log), want) {
				t.Errorf("rank %d: no %q in its log:\n%s", rank, want, log)
			}
		}
	}
}

func TestHungSetUp(t *testing.T) {
	onlyInLongTests(t)
	limits := watched
	limits.Setup = time.Second
	for name, script := range map[string]string{"before a word of progress": "hang", "in set-up": "progress setup 0 0; hang"} {
		outcome, _, _ := runScripts(t, agentConfig{NProc: 1, Limits: limits, Scripts: scripts{{script}}}, nil)
		if f := outcome.Failure; f == nil || !strings.HasPrefix(f.Message, "no progress for 1s (--setup-timeout)") {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestSlowButAlive(t *testing.T) {
	scripts := scripts{{"steps 15; done", "progress train 1 0; activity micro-batch working; sleep 3s; done", "progress train 1 0; activity all-reduce waiting; sleep 3s; done"}}
	if outcome, _, _ := runScripts(t, agentConfig{NProc: 3, Limits: watched, Scripts: scripts}, nil); outcome.Code != ExitDone {
		t.Errorf("%+v %+v", outcome, outcome.Failure)
	}
}

func TestStoppedWorker(t *testing.T) {
	script := fmt.Sprintf("progress train 4 0; signal %d; hang", syscall.SIGSTOP)
	outcome, _, _ := runScripts(t, agentConfig{NProc: 2, Limits: watched, Scripts: scripts{{"activity x waiting; train", script}}}, nil)
	f := outcome.Failure
	if f == nil || f.Rank != 1 || !strings.Contains(f.Message, "stopped by a signal (SIGSTOP") || f.Step != 4 {
		t.Errorf("%+v", f)
	}
}

// TestContinuedWorker stops a worker for less than it may be stopped.
func TestContinuedWorker(t *testing.T) {
	onlyInLongTests(t)
	p := startAgent(t, agentConfig{NProc: 1, Limits: watched, Scripts: scripts{{"print up; steps 20; done"}}})
	p.await("] up", 1)
	pid := left(p.id)[0]
	syscall.Kill(pid, syscall.SIGSTOP)
	time.Sleep(stoppedAfter / 2)
	syscall.Kill(pid, syscall.SIGCONT)
	if code := p.code(); code != ExitDone {
		t.Errorf("exit code %d\n%s", code, p.out.String())
	}
}

func TestSilentWorker(t *testing.T) {
	onlyInLongTests(t)
	limits := watched
	limits.Silence, limits.Step = 2*time.Second, 10*time.Second
	outcome, _, _ := runScripts(t, agentConfig{NProc: 1, Limits: limits, Scripts: scripts{{"progress train 1 0; activity x silent; hang"}}}, nil)
	if f := outcome.Failure; f == nil || f.Message != "no sign of life for 2s (--silence-timeout)" {
		t.Fatalf("%+v", f)
	}
}

// TestWorkerThatDoesNotAnswer is made to print its stacks by itself.
func TestWorkerThatDoesNotAnswer(t *testing.T) {
	dir := t.TempDir()
	outcome, _, _ := runScripts(t, agentConfig{NProc: 1, LogDir: dir, Limits: Limits{Setup: time.Second}}, func(c *Config) {
		c.Worker = []string{"/proc/self/exe", "test-mute"}
	})
	if f := outcome.Failure; f == nil || f.Message != "no progress for 1s (--setup-timeout)" {
		t.Fatalf("%+v", f)
	}
	log, _ := os.ReadFile(filepath.Join(dir, "attempt_0", "0", "stderr.log"))
	if !strings.Contains(string(log), "SIGQUIT: quit") || !strings.Contains(string(log), "TestMain") {
		t.Errorf("the runtime's own stacks are not filed:\n%s", log)
	}
}
