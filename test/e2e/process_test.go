package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for a process: far more than any takes on a busy machine.
const patience = 2 * time.Minute

// process is a program of ours under way.
type process struct {
	t        testing.TB
	cmd      *exec.Cmd
	out, err buffer
	done     chan struct{}
}

// result is how a process ended.
type result struct {
	code        int // -1: by a signal
	out, stderr string
	took        time.Duration
}

// buffer is a bytes.Buffer that may be read while a process writes.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start runs ddprun in the workspace.
func (w *workspace) start(args ...string) *process {
	w.t.Helper()
	return w.startProgram(filepath.Join(binDir, "ddprun"), args...)
}

func (w *workspace) startProgram(program string, args ...string) *process {
	w.t.Helper()
	p := &process{t: w.t, cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Dir = w.dir
	p.cmd.Env = []string{"TMPDIR=" + w.path("tmp")}
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); !strings.HasPrefix(name, "DDPRUN_") && name != "TMPDIR" && name != "OMP_NUM_THREADS" {
			p.cmd.Env = append(p.cmd.Env, variable)
		}
	}
	p.cmd.Env = append(p.cmd.Env, w.env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	p.cmd.WaitDelay = 10 * time.Second // a worker that outlives ddprun holds its output open
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		p.cmd.Wait() // how it ended is in ProcessState
		close(p.done)
	}()
	w.t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
	})
	return p
}

// run runs ddprun to its end.
func (w *workspace) run(args ...string) result {
	w.t.Helper()
	return w.start(args...).wait()
}

// wait waits for the end of the process.
func (p *process) wait() result {
	p.t.Helper()
	began := time.Now()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.cmd.Process.Kill()
		p.t.Fatalf("%v does not end\n%s", p.cmd.Args, p.err.String())
	}
	return result{p.cmd.ProcessState.ExitCode(), p.out.String(), p.err.String(), time.Since(began)}
}

// ended tells whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// until waits for a condition; false: the process has ended without it.
func (p *process) until(what string, condition func() bool) bool {
	p.t.Helper()
	for limit := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if p.ended() {
			return condition()
		}
		if time.Now().After(limit) {
			p.t.Fatalf("%v: waited in vain for %s\n%s", p.cmd.Args, what, p.err.String())
		}
	}
	return true
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
}

// worker returns the process number of a rank; 0 where there is none at the moment.
func (p *process) worker(rank int) int {
	for _, pid := range p.workers() {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err == nil && strings.Contains("\x00"+string(environ), fmt.Sprintf("\x00RANK=%d\x00", rank)) {
			return pid
		}
	}
	return 0
}

// workers returns the process numbers of all ranks.
func (p *process) workers() []int {
	var found []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		// pid (comm) state ppid ...; comm may hold anything.
		head, rest, _ := strings.Cut(string(stat), " (")
		comm, rest, _ := strings.Cut(rest[:strings.LastIndex(rest, ") ")]+"\x00"+rest[strings.LastIndex(rest, ") ")+2:], "\x00")
		fields := strings.Fields(rest)
		if comm == "ddprun-worker" && fields[0] != "Z" && fields[1] == strconv.Itoa(p.cmd.Process.Pid) {
			pid, _ := strconv.Atoi(head)
			found = append(found, pid)
		}
	}
	return found
}

// killWorker sends SIGKILL to a rank, if it is there, and tells whether it was.
func (p *process) killWorker(rank int) bool {
	pid := p.worker(rank)
	return pid != 0 && syscall.Kill(pid, syscall.SIGKILL) == nil
}

// want fails the test where a process did not end with code, or did not say why.
func (r result) want(t testing.TB, code int, said ...string) {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit code %d, want %d\n%s", r.code, code, r.stderr)
	}
	for _, s := range said {
		if !strings.Contains(r.stderr, s) {
			t.Errorf("the message does not say %q:\n%s", s, r.stderr)
		}
	}
}
