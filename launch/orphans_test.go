package launch

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKilledAgentLeavesNothing: SIGKILL gives an agent no chance to clean up.
func TestKilledAgentLeavesNothing(t *testing.T) {
	for name, script := range map[string]string{
		"training workers":            "print up; train",
		"stopped workers":             fmt.Sprintf("print up; signal %d; hang", syscall.SIGSTOP),
		"workers with children":       "child; print up; hang",
		"workers with daemons":        "daemon; print up; hang",
		"stopped ones with daemons":   fmt.Sprintf("daemon; print up; signal %d; hang", syscall.SIGSTOP),
		"workers that have said done": "print up; sleep 1h; done",
	} {
		t.Run(name, func(t *testing.T) {
			p := startAgent(t, agentConfig{Scripts: scripts{{script}}, NProc: 2, MaxRestarts: 3})
			p.await("] up", 2)
			if strings.Contains(script, "signal") {
				waitFor(t, 5*time.Second, "stopped workers", func() bool { return countStopped(p.id) == 2 }, p.out.String)
			}
			if n := len(left(p.id)); n < 2 {
				t.Fatalf("%d processes before the kill", n)
			}
			before := time.Now()
			p.cmd.Process.Kill()
			waitFor(t, time.Second, "no process left", func() bool { return len(left(p.id)) == 0 },
				func() string { return fmt.Sprint(left(p.id)) })
			t.Logf("%v", time.Since(before))
		})
	}
}

// TestWorkersDieWithTheirAgentWithoutAHelper: Pdeathsig alone suffices for workers themselves.
func TestWorkersDieWithTheirAgentWithoutAHelper(t *testing.T) {
	p := startAgent(t, agentConfig{Scripts: scripts{{"print up; train", fmt.Sprintf("print up; signal %d; hang", syscall.SIGSTOP)}},
		NProc: 2, WithoutHelper: true})
	p.await("] up", 2)
	p.cmd.Process.Kill()
	waitFor(t, time.Second, "no process left", func() bool { return len(left(p.id)) == 0 },
		func() string { return fmt.Sprint(left(p.id)) })
}

// TestOrphansOfWorkersAreKilledAndReaped: they go when their worker goes, also if it ends well, and leave no zombies.
func TestOrphansOfWorkersAreKilledAndReaped(t *testing.T) {
	_, out, _ := runScripts(t, agentConfig{Scripts: scripts{{"child; daemon; done"}}, NProc: 2}, func(c *Config) { c.Tee = TeeAll })
	if n := strings.Count(out, "child "); n != 4 {
		t.Fatalf("%d children were started\n%s", n, out)
	}
	for _, line := range strings.Split(out, "\n") {
		_, number, found := strings.Cut(line, "child ")
		if !found {
			continue
		}
		var pid int
		fmt.Sscan(number, &pid)
		if p, ok := readStat(pid); ok {
			t.Errorf("child %d is still there: %+v", pid, p)
		}
	}
}

// TestReaperLeavesOthersChildrenAlone: a command of the agent's own is waited for by whoever started it.
func TestReaperLeavesOthersChildrenAlone(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, 5*time.Second, "a zombie", func() bool { p, ok := readStat(cmd.Process.Pid); return ok && p.state == 'Z' },
		func() string { return "" })
	runScripts(t, agentConfig{Scripts: scripts{{"daemon; done"}}, NProc: 1}, nil) // its daemon makes the reaper look
	if err := cmd.Wait(); err != nil {
		t.Fatalf("another's child was reaped: %v", err)
	}
}

func TestReadStat(t *testing.T) {
	p, ok := readStat(os.Getpid())
	if !ok || p.parent != os.Getppid() || p.group != syscall.Getpgrp() || p.state == 'Z' {
		t.Errorf("%+v %v", p, ok)
	}
	if _, ok := readStat(1 << 30); ok {
		t.Error("a process that does not exist has a state")
	}
}

func countStopped(runID string) int {
	n := 0
	for _, pid := range left(runID) {
		if p, ok := readStat(pid); ok && (p.state == 'T' || p.state == 't') {
			n++
		}
	}
	return n
}
