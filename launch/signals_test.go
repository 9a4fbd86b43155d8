package launch

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ddprun/ddprun/launch/pipe"
)

func TestStopPolicy(t *testing.T) {
	type event struct {
		s    syscall.Signal
		at   time.Duration
		want request
	}
	for name, events := range map[string][]event{
		"TERM once":                    {{syscall.SIGTERM, 0, requestStop}},
		"TERM twice at once":           {{syscall.SIGTERM, 0, requestStop}, {syscall.SIGTERM, time.Second, requestNothing}},
		"TERM again":                   {{syscall.SIGTERM, 0, requestStop}, {syscall.SIGTERM, 3 * time.Second, requestKill}},
		"TERM, counted from the first": {{syscall.SIGTERM, 0, requestStop}, {syscall.SIGTERM, 1500 * time.Millisecond, requestNothing}, {syscall.SIGTERM, 2500 * time.Millisecond, requestKill}},
		"INT twice":                    {{syscall.SIGINT, 0, requestStop}, {syscall.SIGINT, time.Millisecond, requestKill}},
		"INT after TERM":               {{syscall.SIGTERM, 0, requestStop}, {syscall.SIGINT, time.Second, requestStop}, {syscall.SIGINT, 2 * time.Second, requestKill}},
		"USR1 and HUP never kill":      {{syscall.SIGUSR1, 0, requestStop}, {syscall.SIGUSR1, time.Minute, requestStop}, {syscall.SIGHUP, time.Hour, requestStop}},
		"USR1, then TERM":              {{syscall.SIGUSR1, 0, requestStop}, {syscall.SIGTERM, time.Minute, requestStop}},
		"QUIT stops nothing":           {{syscall.SIGQUIT, 0, requestStacks}, {syscall.SIGQUIT, time.Second, requestStacks}, {syscall.SIGINT, time.Second, requestStop}},
		"USR2 means nothing":           {{syscall.SIGUSR2, 0, requestNothing}},
	} {
		var p stopPolicy
		for _, e := range events {
			if got := p.on(e.s, time.Unix(0, 0).Add(e.at)); got != e.want {
				t.Errorf("%s: %v at %v asks for %v, want %v", name, e.s, e.at, got, e.want)
			}
		}
	}
}

func TestSignalsStopWithACheckpoint(t *testing.T) {
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, syscall.SIGHUP) // where the tests run under nohup, agents would inherit that it is ignored
	defer signal.Stop(taken)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGINT, syscall.SIGHUP} {
		p := startAgent(t, agentConfig{Scripts: scripts{{"print up; train"}}, NProc: 2, MaxRestarts: 3})
		p.await("] up", 2)
		p.signal(syscall.SIGUSR2) // means nothing
		p.signal(s)
		if code := p.code(); code != ExitComeAgain {
			t.Errorf("%v: exit code %d\n%s", s, code, p.out.String())
		}
		if s == syscall.SIGINT && !strings.Contains(p.out.String(), "again to stop at once") {
			t.Errorf("the way to stop at once is not said:\n%s", p.out.String())
		}
	}
}

// TestClosedOutputDoesNotEndTheRun: of "ddprun train.yaml | tee log" a terminal's INT ends the tee at once.
func TestClosedOutputDoesNotEndTheRun(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	p := startAgentTo(t, agentConfig{Scripts: scripts{{"print up; sleep 300ms; print unheard; train"}}, NProc: 2}, writer)
	p.await("workers started", 1)
	reader.Close()
	time.Sleep(600 * time.Millisecond)
	p.signal(syscall.SIGINT)
	if code := p.code(); code != ExitComeAgain {
		t.Errorf("%v\n%s", p.cmd.ProcessState, p.out.String())
	}
}

func TestSecondInterruptIsImmediate(t *testing.T) {
	p := startAgent(t, agentConfig{Scripts: scripts{{"print up; hang"}}, NProc: 2, MaxRestarts: 3})
	p.await("] up", 2)
	p.signal(syscall.SIGINT)
	p.await("stopping with a checkpoint", 1)
	before := time.Now()
	p.signal(syscall.SIGINT)
	if code := p.code(); code != ExitSignal+int(syscall.SIGINT) {
		t.Errorf("exit code %d\n%s", code, p.out.String())
	}
	if took := time.Since(before); took >= DefaultGrace {
		t.Errorf("took %v", took)
	}
	if pids := left(p.id); len(pids) > 0 {
		t.Errorf("processes %v are left", pids)
	}
}

func TestGraceEndsAWorkerThatDoesNotStop(t *testing.T) {
	p := startAgent(t, agentConfig{Scripts: scripts{{"print up; hang", "print up; train"}}, NProc: 2, Grace: 300 * time.Millisecond, MaxRestarts: 3})
	p.await("] up", 2)
	before := time.Now()
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != ExitSignal+int(syscall.SIGTERM) {
		t.Errorf("exit code %d\n%s", code, p.out.String())
	}
	if took := time.Since(before); took < 300*time.Millisecond || took >= DefaultGrace {
		t.Errorf("took %v", took)
	}
}

func TestFailureWhileStoppingIsNotTriedAgain(t *testing.T) {
	p := startAgent(t, agentConfig{Scripts: scripts{{"print up; train", "print up; sleep 500ms; exit 3"}}, NProc: 2, MaxRestarts: 3})
	p.await("] up", 2)
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != ExitSignal+int(syscall.SIGTERM) || strings.Count(p.out.String(), "workers started") != 1 {
		t.Errorf("exit code %d\n%s", code, p.out.String())
	}
}

// TestWorkersAreDeaf: a scheduler signals every process of a job. Only the agent acts on it.
func TestWorkersAreDeaf(t *testing.T) {
	p := startAgent(t, agentConfig{Scripts: scripts{{"print up; train"}}, NProc: 2})
	p.await("] up", 2)
	for _, pid := range left(p.id) {
		for _, s := range pipe.JobSignals {
			syscall.Kill(pid, s.(syscall.Signal))
		}
	}
	time.Sleep(100 * time.Millisecond)
	if alive := len(left(p.id)); alive != 2 {
		t.Fatalf("%d of 2 workers live\n%s", alive, p.out.String())
	}
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != ExitComeAgain {
		t.Errorf("exit code %d\n%s", code, p.out.String())
	}
}

// TestSignalsToTheWholeJobWhileItStarts: whenever a scheduler signals all processes at once, nothing but a stop comes of it.
func TestSignalsToTheWholeJobWhileItStarts(t *testing.T) {
	rounds := 6
	if os.Getenv("DDPRUN_TEST_ALL") != "" {
		rounds = 60
	}
	for round := range rounds {
		p := startAgent(t, agentConfig{Scripts: scripts{{"train"}}, NProc: 2, MaxRestarts: 3})
		waitFor(t, 10*time.Second, "a worker", func() bool { return len(left(p.id)) > 0 }, p.out.String)
		time.Sleep(time.Duration(round%6) * 3 * time.Millisecond)
		p.signal(syscall.SIGTERM)
		for end := time.Now().Add(30 * time.Millisecond); time.Now().Before(end); {
			for _, pid := range left(p.id) {
				syscall.Kill(pid, syscall.SIGTERM)
			}
		}
		if code := p.code(); code != ExitComeAgain {
			t.Fatalf("round %d: exit code %d\n%s", round, code, p.out.String())
		}
	}
}

// TestHelperIgnoresSignalsThroughExec starts a program that is no worker and no Go program, so that what it inherits is
// seen: the dynamic linker of a real worker runs with the same.
func TestHelperIgnoresSignalsThroughExec(t *testing.T) {
	_, out, _ := runScripts(t, agentConfig{NProc: 1}, func(c *Config) { c.Worker = []string{"grep", "SigIgn", "/proc/self/status"} })
	_, mask, _ := strings.Cut(out, "SigIgn:\t")
	var ignored uint64
	fmt.Sscanf(mask, "%x", &ignored)
	for _, s := range pipe.JobSignals {
		if ignored&(1<<(s.(syscall.Signal)-1)) == 0 {
			t.Errorf("%v is not ignored: %q", s, out)
		}
	}
}
