package nodes

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// held is a process that stands still before a system call, as if it had been stopped by a signal at that very place.
type held struct {
	once    sync.Once
	release chan struct{}
	done    chan struct{}
}

// holdRename traces a process that is no child of the test itself (whose waiting for it would take the tracer's news) a process until it is about to rename a path with from in its name to one with to in its name, and lets it stand there, all its threads.
func holdRename(t testing.TB, pid int, from, to string) *held {
	t.Helper()
	return traceRename(t, &tracer{pid: pid, from: from, to: to})
}

// failRename has the renaming fail, as a file system on a network does that is not well, and lets the process go on.
func failRename(t testing.TB, pid int, from, to string, with unix.Errno) {
	t.Helper()
	traceRename(t, &tracer{pid: pid, from: from, to: to, errno: with}).letGo()
}

func traceRename(t testing.TB, tr *tracer) *held {
	t.Helper()
	h := &held{release: make(chan struct{}), done: make(chan struct{})}
	t.Cleanup(h.letGo) // before its host is powered off, which would wait for it
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // tracing is the thread's; it ends with this
		defer close(h.done)
		tr.running = map[int]bool{}
		err := tr.seize()
		for err == nil && !tr.held() {
			err = tr.next()
		}
		ready <- err
		<-h.release
		for tid := range tr.running {
			unix.PtraceDetach(tid) // may be gone
		}
	}()
	if err := <-ready; err != nil {
		t.Fatalf("hold process %d: %v", tr.pid, err)
	}
	return h
}

// letGo lets the process go on, with the renaming.
func (h *held) letGo() {
	h.once.Do(func() { close(h.release) })
	<-h.done
}

// tracer holds the threads of a process.
type tracer struct {
	pid      int
	from, to string
	errno    unix.Errno   // what the renaming fails with; 0: it does not
	running  map[int]bool // by thread; false: it stands still
	failing  int          // the thread that is about to see that; 0: none
	found    bool
}

func (t *tracer) held() bool {
	for _, running := range t.running {
		if running {
			return false
		}
	}
	return t.found
}

const traceOptions = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE

func (t *tracer) seize() error {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", t.pid))
	if err != nil {
		return err
	}
	for _, task := range tasks {
		var tid int
		fmt.Sscan(task.Name(), &tid)
		if err := unix.PtraceSeize(tid); err != nil {
			return fmt.Errorf("trace thread %d: %w", tid, err)
		}
		if err := unix.PtraceInterrupt(tid); err != nil {
			return err
		}
		t.running[tid] = true
	}
	return nil
}

// next takes what happens to a thread, and lets it go on, unless the call has come that is waited for.
func (t *tracer) next() error {
	var status unix.WaitStatus
	tid, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
	if err == unix.EINTR {
		return nil
	} else if err != nil {
		return err
	}
	if !status.Stopped() {
		delete(t.running, tid)
		if tid == t.pid {
			return fmt.Errorf("it ends first: %v", status)
		}
		return nil
	}
	t.running[tid] = false
	signal := int(status.StopSignal())
	event := int(status) >> 16
	switch {
	case event == unix.PTRACE_EVENT_STOP: // a new thread, or the first word of one that was seized
		unix.PtraceSetOptions(tid, traceOptions)
		signal = 0
	case event != 0:
		signal = 0
	case signal == int(unix.SIGTRAP)|0x80:
		signal = 0
		if !t.found && t.reached(tid) {
			t.found = true
			for other, running := range t.running {
				if running {
					unix.PtraceInterrupt(other)
				}
			}
		}
	}
	if t.found {
		return nil
	}
	t.running[tid] = true
	return unix.PtraceSyscall(tid, signal)
}

// reached tells whether a thread that stands at a system call, before or after it, is where it is to be held.
func (t *tracer) reached(tid int) bool {
	var regs unix.PtraceRegs
	if unix.PtraceGetRegs(tid, &regs) != nil {
		return false
	}
	if t.failing == tid { // it comes back
		regs.Rax = uint64(-int64(t.errno))
		return unix.PtraceSetRegs(tid, &regs) == nil
	}
	if awaited := t.awaited(tid, &regs); !awaited || t.errno == 0 {
		return awaited
	}
	t.failing, regs.Orig_rax = tid, math.MaxUint64 // no call: the kernel does nothing
	unix.PtraceSetRegs(tid, &regs)
	return false
}

// awaited tells whether a thread that stands at a system call is about to do the renaming.
func (t *tracer) awaited(tid int, regs *unix.PtraceRegs) bool {
	if int64(regs.Rax) != -int64(unix.ENOSYS) { // the kernel has that there before a call
		return false
	}
	from, to := regs.Rsi, regs.R10 // of renameat and renameat2
	switch regs.Orig_rax {
	case unix.SYS_RENAME:
		from, to = regs.Rdi, regs.Rsi
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
	default:
		return false
	}
	return strings.Contains(text(tid, uintptr(from)), t.from) && strings.Contains(text(tid, uintptr(to)), t.to)
}

// text reads a C string of a process.
func text(tid int, at uintptr) string {
	buffer := make([]byte, 512)
	n, _ := unix.PtracePeekData(tid, at, buffer)
	content, _, _ := bytes.Cut(buffer[:n], []byte{0})
	return string(content)
}

// renaming has a shell whose child, the process pid, is about to rename save-1 to kept-1.
func renaming(t *testing.T) (c *cluster, shell *process, pid int) {
	t.Helper()
	c = newCluster(t, 1)
	c.write("save-1", "content")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	shell = c.hosts[0].start([]string{roleVariable + "=probe"}, "/bin/sh", "-c", "\"$0\" rename \"$1\" \"$2\"; exit $?",
		self, c.path("save-1"), c.path("kept-1"))
	shell.until("renaming")
	for _, other := range c.hosts[0].processes("") {
		if other != shell.cmd.Process.Pid {
			pid = other
		}
	}
	return c, shell, pid
}

// A process that is held before renaming has not renamed; let go, it has.
func TestHoldRename(t *testing.T) {
	t.Parallel()
	c, p, pid := renaming(t)
	h := holdRename(t, pid, "save-", "kept-")
	if _, err := os.Stat(c.path("kept-1")); err == nil {
		t.Error("the renaming has come before its time")
	}
	h.letGo()
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.log())
	}
	if content := c.read("kept-1"); content != "content" {
		t.Errorf("renamed: %q", content)
	}
}

// A process whose renaming is made to fail has not renamed, and is told why.
func TestFailRename(t *testing.T) {
	t.Parallel()
	c, p, pid := renaming(t)
	failRename(t, pid, "save-", "kept-", unix.EIO)
	if code := p.wait(); code != 1 {
		t.Errorf("exit code %d\n%s", code, p.log())
	}
	p.until("input/output error")
	if content := c.read("save-1"); content != "content" {
		t.Errorf("not renamed: %q", content)
	}
}
