package launch

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ddprun/ddprun/launch/pipe"
)

// spawner starts processes from one OS thread that lives until close. Pdeathsig is tied to the thread that forks, not to
// its process: on any other thread of Go's, workers would die whenever the runtime retires it. The signals that workers
// are deaf to are blocked in this thread, and so in what it starts (pipe.JobSignals says how far that goes).
type spawner struct {
	requests chan func()
	ended    chan struct{}

	mu       sync.Mutex
	children map[int]bool // processes started here and not yet waited for: the reaper leaves them alone
}

func newSpawner() (*spawner, error) {
	s := &spawner{requests: make(chan func()), ended: make(chan struct{}), children: map[int]bool{}}
	ready := make(chan error)
	go func() {
		defer close(s.ended)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and its signal mask with it
		err := unix.PthreadSigmask(unix.SIG_BLOCK, signalSet(pipe.JobSignals), nil)
		ready <- err
		for request := range s.requests {
			request()
		}
	}()
	if err := <-ready; err != nil {
		s.close()
		return nil, fmt.Errorf("launch: block signals: %w", err)
	}
	return s, nil
}

// close ends the thread. Whatever it started must have ended: it dies with the thread.
func (s *spawner) close() {
	close(s.requests)
	<-s.ended
}

// start starts a process; wait must follow.
func (s *spawner) start(argv []string, attr *os.ProcAttr) (*os.Process, error) {
	var process *os.Process
	var err error
	done := make(chan struct{})
	s.requests <- func() {
		defer close(done)
		s.mu.Lock() // so that the reaper cannot see the process before it is known
		defer s.mu.Unlock()
		if process, err = os.StartProcess(argv[0], argv, attr); err == nil {
			s.children[process.Pid] = true
		}
	}
	<-done
	return process, err
}

// wait waits for a process's end. ended, if not nil, is called when the process has ended but still holds its number, so
// that its process group can be killed without hitting a later one of the same number.
func (s *spawner) wait(process *os.Process, ended func()) (*os.ProcessState, error) {
	for {
		err := unix.Waitid(unix.P_PID, process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	if ended != nil {
		ended()
	}
	state, err := process.Wait()
	s.mu.Lock()
	delete(s.children, process.Pid)
	s.mu.Unlock()
	return state, err
}

// signalSet returns the set of the given signals as the kernel takes it.
func signalSet(signals []os.Signal) *unix.Sigset_t {
	var set unix.Sigset_t
	const bits = 64 // of a word of the set
	for _, s := range signals {
		n := uint(s.(syscall.Signal)) - 1
		set.Val[n/bits] |= 1 << (n % bits)
	}
	return &set
}

// closeOnExecAll marks every descriptor above standard error that this process has inherited, so that workers do not
// inherit them in turn (a shell's or make's). Those that Go opens are marked already.
func closeOnExecAll() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("launch: list open descriptors: %w", err)
	}
	for _, entry := range entries {
		var fd int
		if _, err := fmt.Sscan(entry.Name(), &fd); err == nil && fd > 2 {
			unix.CloseOnExec(fd) // one that is closed by now (ReadDir's own) does no harm
		}
	}
	return nil
}
