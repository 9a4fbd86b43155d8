package pipe

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrNoAgent: the process was not started by an agent.
var ErrNoAgent = errors.New("pipe: not started by ddprun (" + EnvFD +
	" is not set): run ddprun, which starts its workers itself")

// JobSignals are the signals with which schedulers and terminals address all processes of a job. A worker is deaf to
// them: the agent decides, and tells it over the pipe.
//
// The agent starts workers with these signals blocked and, by way of a helper, ignored, so none harms a worker while the
// dynamic linker loads libtorch. USR1 and USR2 stay blocked. Go's runtime, when it starts, unblocks the others and puts its
// own handlers in place (also of an ignored TERM), so for some milliseconds, until FromEnvironment ignores them again,
// they would end the worker; the agent takes that end for obedience if it was asked to stop as well.
var JobSignals = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2}

// FromEnvironment takes up the line to the agent that started this process; a worker calls it first. program is the
// program's own version. ErrNoAgent where there is no agent, ErrLost where it has died already.
//
// It ignores JobSignals, makes the descriptor close-on-exec, and removes the line's variables from the environment, so
// that nothing the worker starts takes itself for a worker.
func FromEnvironment(program string) (*Worker, error) {
	text := os.Getenv(EnvFD)
	if text == "" {
		return nil, ErrNoAgent
	}
	signal.Ignore(JobSignals...)
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("pipe: %s=%q is no descriptor", EnvFD, text)
	}
	parent, err := strconv.Atoi(os.Getenv(EnvAgentPID))
	if err != nil {
		return nil, fmt.Errorf("pipe: %s=%q is no process id", EnvAgentPID, os.Getenv(EnvAgentPID))
	}
	os.Unsetenv(EnvFD)
	os.Unsetenv(EnvAgentPID)
	// Pdeathsig does not fire for a parent that died before it was set.
	if os.Getppid() != parent {
		return nil, fmt.Errorf("%w: process %d, which started this worker, has died", ErrLost, parent)
	}
	// An unrelated descriptor that happens to have the number must not be taken over.
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_STREAM {
		return nil, fmt.Errorf("pipe: descriptor %d (%s) is not the agent's socket", fd, EnvFD)
	}
	unix.CloseOnExec(fd)
	conn, err := connFromFD(fd)
	if err != nil {
		return nil, err
	}
	return NewWorker(conn, program)
}
