package nodes

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait: far more than any takes on a busy machine.
const patience = 2 * time.Minute

// process is a program on a host.
type process struct {
	t     testing.TB
	host  *host
	cmd   *exec.Cmd
	input io.WriteCloser
	done  chan struct{}
	quiet chan struct{} // closed when nobody can write a line any more

	mu    sync.Mutex
	lines []line
}

// line is one that a process has written, to standard output or error, and when it came.
type line struct {
	at   time.Time
	text string
}

// start starts a program on the host, in the shared directory. It ends with the host, if not before. env is added to the variables that the test itself has.
func (h *host) start(env []string, program string, args ...string) *process {
	h.c.t.Helper()
	if h.clock != nil {
		program, args, env = "/proc/self/exe", append([]string{h.clock.String(), program}, args...), append(env[:len(env):len(env)], roleVariable+"=clock")
	}
	p := &process{t: h.c.t, host: h, cmd: exec.Command(program, args...), done: make(chan struct{}), quiet: make(chan struct{})}
	p.cmd.Dir = h.c.dir
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); !strings.HasPrefix(name, "DDPRUN_") && name != "OMP_NUM_THREADS" {
			p.cmd.Env = append(p.cmd.Env, variable)
		}
	}
	p.cmd.Env = append(p.cmd.Env, env...)
	read, write, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = write, write
	if p.input, err = p.cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	err = h.room.do(p.cmd.Start)
	write.Close()
	if err != nil {
		p.t.Fatalf("%s: %v", h.name, err)
	}
	go p.note(read)
	go func() {
		p.cmd.Wait() // how it ended is in ProcessState
		close(p.done)
	}()
	return p
}

// note keeps what the process and its children write, until the last of them has ended.
func (p *process) note(from *os.File) {
	defer close(p.quiet)
	defer from.Close()
	scanner := bufio.NewScanner(from)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		at := time.Now()
		p.mu.Lock()
		p.lines = append(p.lines, line{at, scanner.Text()})
		p.mu.Unlock()
	}
	io.Copy(io.Discard, from)
}

// said returns the lines so far.
func (p *process) said() []line {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines[:len(p.lines):len(p.lines)]
}

// find returns the first line at or after a time that holds one of the texts.
func (p *process) find(after time.Time, texts ...string) (line, bool) {
	for _, l := range p.said() {
		if l.at.Before(after) {
			continue
		}
		for _, text := range texts {
			if strings.Contains(l.text, text) {
				return l, true
			}
		}
	}
	return line{}, false
}

// log is what the process has written, for a message.
func (p *process) log() string { return timed(p.said()) }

func timed(lines []line) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.at.Format("05.000 ") + l.text + "\n")
	}
	return b.String()
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// wait waits for the end and returns the exit code; -1: by a signal.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s: %v does not end\n%s", p.host.name, p.cmd.Args, p.log())
	}
	select {
	case <-p.quiet: // so its last line is there
	case <-time.After(time.Second): // a child of its is left
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("%s: %v", p.host.name, err)
	}
}

// until waits for a line that holds one of the texts.
func (p *process) until(texts ...string) line {
	p.t.Helper()
	return p.untilAfter(time.Time{}, texts...)
}

func (p *process) untilAfter(after time.Time, texts ...string) (found line) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%s to say one of %q", p.host.name, texts), p.log, func() (ok bool) {
		found, ok = p.find(after, texts...)
		return ok
	})
	return found
}

// eventually waits for a condition. about tells more, should it never come.
func eventually(t testing.TB, what string, about func() string, condition func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("waited in vain for %s\n%s", what, about())
		}
	}
}
