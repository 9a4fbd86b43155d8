package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestQuitShowsStacksAndGoesOn(t *testing.T) {
	dir := t.TempDir()
	p := startAgent(t, agentConfig{NProc: 2, LogDir: dir, Scripts: scripts{{"print up; progress train 3 0; activity all-reduce waiting; train"}}})
	p.await("] up", 2)
	p.signal(syscall.SIGQUIT)
	p.await("goroutine 1 [", 2)
	for _, want := range []string{"[rank 0] ==== stacks of rank 0 (pid ", "[rank 1] ==== stacks of rank 1 (pid ", "[rank 1] phase train, step 3", "testCommand"} {
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("no %q in\n%s", want, p.out.String())
		}
	}
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != ExitComeAgain {
		t.Errorf("exit code %d\n%s", code, p.out.String())
	}
	log, _ := os.ReadFile(filepath.Join(dir, "attempt_0", "1", "stderr.log"))
	if !strings.Contains(string(log), "goroutine 1 [") || !regexp.MustCompile(`(?m)^thread \d+ \S+: [RSD] `).Match(log) {
		t.Errorf("filed:\n%s", log)
	}
}

// TestQuitWithAStoppedWorker: it cannot answer, and holds up nothing.
func TestQuitWithAStoppedWorker(t *testing.T) {
	onlyInLongTests(t)
	p := startAgent(t, agentConfig{NProc: 2, Scripts: scripts{{"print up; train", fmt.Sprintf("print up; signal %d; train", syscall.SIGSTOP)}}})
	p.await("] up", 2)
	waitFor(t, 10*time.Second, "a stopped worker", func() bool {
		for _, pid := range left(p.id) {
			if s, _ := readStat(pid); s.state == 'T' {
				return true
			}
		}
		return false
	}, p.out.String)
	p.signal(syscall.SIGQUIT)
	p.await("it does not answer", 1)
	p.await("goroutine 1 [", 1)
	if !regexp.MustCompile(`thread \d+ \S+: T`).MatchString(p.out.String()) {
		t.Errorf("no stopped thread in\n%s", p.out.String())
	}
}

// TestDebuggedRank has no time-outs, and outlives the others' failure while a debugger is attached.
func TestDebuggedRank(t *testing.T) {
	p := startAgent(t, agentConfig{NProc: 2, Limits: watched, DebugRanks: []int{1},
		Scripts: scripts{{"activity all-reduce waiting; sleep 3s; exit 3", "progress train 1 0; print up; hang"}}})
	p.await("] up", 1)
	_, rest, _ := strings.Cut(p.out.String(), "waits for a debugger: gdb -p ")
	text, _, _ := strings.Cut(rest, ",")
	pid, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("no pid in\n%s", p.out.String())
	}
	trace(t, pid)
	p.await("left to its debugger", 1)
	time.Sleep(500 * time.Millisecond)
	if alive := left(p.id); len(alive) != 1 || alive[0] != pid || strings.Contains(p.out.String(), "timeout") {
		t.Fatalf("%v are left\n%s", alive, p.out.String())
	}
	p.signal(syscall.SIGINT)
	p.await("stopping with a checkpoint", 1)
	p.signal(syscall.SIGINT)
	if code := p.code(); code == ExitDone {
		t.Errorf("exit code %d\n%s", code, p.out.String())
	}
}

// trace attaches to a process as a debugger that does nothing.
func trace(t *testing.T, pid int) {
	t.Helper()
	attached := make(chan error)
	go func() {
		runtime.LockOSThread() // a debugger is a thread
		err := unix.PtraceSeize(pid)
		attached <- err
		for err == nil {
			var status unix.WaitStatus
			if _, err = unix.Wait4(pid, &status, unix.WALL, nil); err == nil && status.Stopped() {
				err = unix.PtraceCont(pid, int(status.StopSignal()))
			}
		}
	}()
	if err := <-attached; err != nil {
		t.Skipf("ptrace: %v", err)
	}
}
