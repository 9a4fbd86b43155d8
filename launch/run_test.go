package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ddprun/ddprun/launch/pipe"
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

func TestOthersEndWithinTwoSeconds(t *testing.T) {
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
				Scripts: scripts{{others, "get up; progress train 7 0; stamp; signal 9; hang"}}, NProc: 2}, nil)
			_, stamp, _ := strings.Cut(out, "stamp ")
			var death int64
			fmt.Sscan(stamp, &death)
			took := time.Since(time.Unix(0, death)) // Run has returned, and seen to it that nothing is left
			f := outcome.Failure
			if f == nil || f.Rank != 1 || f.Signal != syscall.SIGKILL || f.ExitCode != -1 || f.Phase != pipe.PhaseTrain || f.Step != 7 {
				t.Errorf("failure: %+v", f)
			}
			if took > 2*time.Second {
				t.Errorf("the attempt took %v", took)
			}
			t.Logf("%v", took)
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

func TestFirstFailureIsReported(t *testing.T) {
	for _, c := range []struct {
		name    string
		scripts []string
		rank    int
		message string
	}{
		{"first by time", []string{"set up; sleep 200ms; error second; exit 1", "get up; error first; exit 1"}, 1, "first"},
		{"an echo that is faster", []string{"get up; echo peer lost; exit 1", "set up; sleep 200ms; error the cause; exit 1"}, 1, "the cause"},
		{"an echo and a crash", []string{"get up; echo peer lost; exit 1", "set up; sleep 200ms; signal 9; hang"}, 1, "killed (SIGKILL), as the kernel does when memory is short"},
		{"only an echo", []string{"echo peer lost; exit 1", "train"}, 0, "peer lost"},
		{"without an account", []string{"train", "raw \"last words\\n\"; exit 4"}, 1, "it gave no account of why; the end of its output may"},
	} {
		t.Run(c.name, func(t *testing.T) {
			outcome, _, _ := runScripts(t, agentConfig{Scripts: scripts{c.scripts}, NProc: 2}, nil)
			if f := outcome.Failure; f == nil || f.Rank != c.rank || f.Message != c.message {
				t.Fatalf("failure: %+v", f)
			}
		})
	}
}

func TestFailureIsFiledAndItsLastLinesShown(t *testing.T) {
	dir := t.TempDir()
	failing := `progress train 41 40; raw "one\x1b[31m\ntwo"; error disk\tfull; exit 5`
	outcome, out, errOut := runScripts(t, agentConfig{Scripts: scripts{{"print quiet; train", failing}}, NProc: 2, LogDir: dir},
		func(c *Config) { c.Tee = TeeNone })
	f := outcome.Failure
	if f == nil || f.ExitCode != 5 || f.Step != 41 || strings.Join(f.LastLines, "|") != `one\x1b[31m|two` {
		t.Fatalf("failure: %+v", f)
	}
	if out != "" || errOut != "[rank 1] one\\x1b[31m\n[rank 1] two\n" {
		t.Errorf("shown: %q %q", out, errOut)
	}
	text := f.Error()
	for _, part := range []string{"rank 1", "train at step 41", "disk", "exit code 5", filepath.Join(dir, "attempt_0", "1")} {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "attempt_0", "1", "error.json"))
	if err != nil {
		t.Fatal(err)
	}
	var filed struct {
		Message struct {
			Message   string
			ErrorCode int
			ExtraInfo map[string]any
		}
	}
	if err := json.Unmarshal(data, &filed); err != nil {
		t.Fatal(err)
	}
	if m := filed.Message; m.Message != f.Message || m.ErrorCode != 5 || m.ExtraInfo["timestamp"] == "" || m.ExtraInfo["py_callstack"] == nil {
		t.Errorf("error.json: %s", data)
	}
	if _, err := os.Stat(filepath.Join(dir, "attempt_0", "0", "error.json")); !os.IsNotExist(err) {
		t.Errorf("the other rank has an error.json: %v", err)
	}
}

func TestLogsLieAsTorchrunsDo(t *testing.T) {
	dir := t.TempDir()
	script := `print out; raw "err\r\n\x00partial"; done`
	for range 2 { // a second run keeps the first one's logs
		runScripts(t, agentConfig{Scripts: scripts{{script}}, NProc: 2, LogDir: dir}, nil)
	}
	for _, attempt := range []string{"attempt_0", "attempt_1"} {
		for _, rank := range []string{"0", "1"} {
			for name, want := range map[string]string{"stdout.log": "out\n", "stderr.log": "err\r\n\x00partial"} {
				got, err := os.ReadFile(filepath.Join(dir, attempt, rank, name))
				if err != nil || string(got) != want {
					t.Errorf("%s/%s/%s: %q %v", attempt, rank, name, got, err)
				}
			}
		}
	}
}

func TestTee(t *testing.T) {
	for tee, want := range map[Tee]string{"": "[rank 0] hello\n", TeeNone: "", TeeRank0: "[rank 0] hello\n", TeeAll: "[rank 0] hello\n[rank 1] hello\n"} {
		_, out, _ := runScripts(t, agentConfig{Scripts: scripts{{"print hello; set up; done", "get up; print hello; done"}}, NProc: 2},
			func(c *Config) { c.Tee = tee })
		lines := strings.SplitAfter(out, "\n")
		if len(lines) == 3 && lines[0] > lines[1] {
			lines[0], lines[1] = lines[1], lines[0]
		}
		if got := strings.Join(lines, ""); got != want {
			t.Errorf("tee %q shows %q", tee, got)
		}
	}
}

func TestTorchrunsVariables(t *testing.T) {
	t.Setenv("DDPRUN_KEY", "secret")
	t.Setenv("OMP_NUM_THREADS", "")
	_, out, _ := runScripts(t, agentConfig{Scripts: scripts{{"train", "exit 1"}, {"done", "env; done"}}, NProc: 2, MaxRestarts: 2}, nil)
	for _, want := range []string{
		"RANK=1", "LOCAL_RANK=1", "WORLD_SIZE=2", "LOCAL_WORLD_SIZE=2", "GROUP_RANK=0", "GROUP_WORLD_SIZE=1", "ROLE_RANK=1",
		"ROLE_WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=29500", "TORCHELASTIC_RESTART_COUNT=1", "TORCHELASTIC_MAX_RESTARTS=2",
		"OMP_WAIT_POLICY=PASSIVE", fmt.Sprintf("OMP_NUM_THREADS=%d", max(1, runtime.GOMAXPROCS(0)/2)),
	} {
		if !strings.Contains(out, "[rank 1] "+want+"\n") {
			t.Errorf("the environment lacks %s", want)
		}
	}
	for _, unwanted := range []string{"DDPRUN_KEY", pipe.EnvFD, pipe.EnvAgentPID} {
		if strings.Contains(out, unwanted+"=") {
			t.Errorf("the environment has %s", unwanted)
		}
	}
}

func TestWorkersInheritFourDescriptorsAndBlockedSignals(t *testing.T) {
	// One that this process has inherited, as from a shell: not close-on-exec.
	leak, err := syscall.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(leak)
	_, out, _ := runScripts(t, agentConfig{Scripts: scripts{{"facts; done"}}, NProc: 1}, nil)
	allowed := []string{"fd 0 /dev/null", "fd 1 pipe:", "fd 2 pipe:", "eventpoll", "eventfd", "/proc/", "/sys/fs/cgroup"}
	for _, line := range strings.Split(out, "\n") {
		line = strings.TrimPrefix(line, "[rank 0] ")
		known := !strings.HasPrefix(line, "fd ")
		for _, a := range allowed {
			known = known || strings.Contains(line, a)
		}
		// The runtime's copy of descriptor 3 (net.FileConn) is the worker's own.
		if _, target, _ := strings.Cut(strings.TrimPrefix(line, "fd "), " "); target == "" {
			continue // the descriptor with which the list was read
		}
		if !known && !strings.Contains(line, "socket:") {
			t.Errorf("inherited: %s", line)
		}
	}
	var blocked uint64
	_, mask, _ := strings.Cut(out, "SigBlk:\t")
	fmt.Sscanf(mask, "%x", &blocked)
	for _, s := range []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2} {
		if blocked&(1<<(s.(syscall.Signal)-1)) == 0 {
			t.Errorf("%v is not blocked: mask %x", s, blocked)
		}
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

func TestBadConfig(t *testing.T) {
	good := agentConfig{Scripts: scripts{{"done"}}, NProc: 1}.config()
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
		code   int
	}{
		"nproc 0":         {func(c *Config) { c.NProc = 0 }, "nproc is 0", ExitConfig},
		"nproc -1":        {func(c *Config) { c.NProc = -1 }, "nproc is -1", ExitConfig},
		"nproc huge":      {func(c *Config) { c.NProc = 1 << 30 }, "at most 1024", ExitConfig},
		"no worker":       {func(c *Config) { c.Worker = nil }, "no worker", ExitConfig},
		"threads":         {func(c *Config) { c.ThreadsPerRank = -1 }, "threads", ExitConfig},
		"restarts":        {func(c *Config) { c.MaxRestarts = -1 }, "restarts", ExitConfig},
		"grace":           {func(c *Config) { c.Grace = -1 }, "grace", ExitConfig},
		"tee":             {func(c *Config) { c.Tee = "some" }, `"some"`, ExitConfig},
		"config":          {func(c *Config) { c.ConfigJSON = []byte("{") }, "not JSON", ExitConfig},
		"config too long": {func(c *Config) { c.ConfigJSON = make([]byte, 5<<20) }, "4 MiB", ExitConfig},
		"missing worker":  {func(c *Config) { c.Worker[0] = "/no/such/worker" }, "/no/such/worker", ExitFailed},
		"log dir a file":  {func(c *Config) { c.LogDir = "/dev/null/logs" }, "log directory", ExitFailed},
		"missing helper":  {func(c *Config) { c.Helper = []string{"/no/such/helper"} }, "/no/such/helper", ExitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			bad.Worker = append([]string{}, good.Worker...)
			c.change(&bad)
			outcome, err := Run(context.Background(), bad)
			if err == nil || !strings.Contains(err.Error(), c.want) || outcome.Code != c.code {
				t.Errorf("%v, exit code %d; want %q, %d", err, outcome.Code, c.want, c.code)
			}
		})
	}
}

func TestContextEndsTheRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	a := agentConfig{Scripts: scripts{{"hang"}}, NProc: 2, RunID: "test-" + randomHex(8), MaxRestarts: 3}
	before := time.Now()
	outcome, err := Run(ctx, a.config())
	if !errors.Is(err, context.DeadlineExceeded) || outcome.Code != ExitFailed || outcome.Attempts != 1 {
		t.Errorf("%+v %v", outcome, err)
	}
	if took := time.Since(before); took > 2*time.Second {
		t.Errorf("took %v", took)
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
