package launch

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/ddprun/ddprun/launch/pipe"
)

// guardFD is the descriptor on which a guard waits for its agent's end.
const guardFD = 3

// Roles of a helper process; the role follows the arguments of Config.Helper.
const (
	roleGuard = "guard"
	roleExec  = "exec"
)

// Helper is the whole life of a helper process, that is, of a program started as Config.Helper says; args are the
// arguments that follow those. It has two roles.
//
// A guard waits until the agent that started it has ended, however that came about, and kills what the agent's workers
// have started and left behind.
//
// The other one ignores the signals that a worker is deaf to and then becomes the worker: an ignored signal stays
// ignored through exec, so one that comes while the dynamic linker loads libtorch does no harm. The agent cannot start a
// process that way, since it heeds those signals itself.
func Helper(args []string) error {
	switch {
	case len(args) == 1 && args[0] == roleGuard:
		return guardAgent()
	case len(args) > 1 && args[0] == roleExec:
		signal.Ignore(pipe.JobSignals...)
		return fmt.Errorf("launch: start %s: %w", args[1], syscall.Exec(args[1], args[1:], os.Environ()))
	}
	return errors.New("launch: a helper is started by an agent, never by hand")
}

// guard is the agent's side of a guard process.
type guard struct {
	process *os.Process
	agent   *os.File // its end is the agent's end
}

// startGuard starts a guard over the processes that carry mark.
func startGuard(s *spawner, argv []string, mark string) (*guard, error) {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("launch: guard: %w", err)
	}
	defer theirs.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("launch: guard: %w", err)
	}
	defer null.Close()
	process, err := s.start(with(argv, roleGuard), &os.ProcAttr{
		Files: []*os.File{null, null, null, theirs},
		Sys:   &syscall.SysProcAttr{Setsid: true}, // out of the reach of whoever kills the agent's group
	})
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("launch: start guard: %w", err)
	}
	fmt.Fprintln(ours, mark)
	return &guard{process, ours}, nil
}

// close ends the guard, which looks for processes left behind a last time.
func (g *guard) close(s *spawner) {
	g.agent.Close()
	s.wait(g.process, nil)
}

// guardAgent is a guard's life.
func guardAgent() error {
	lines := bufio.NewReader(os.NewFile(guardFD, "pipe from the agent"))
	line, err := lines.ReadString('\n')
	mark := strings.TrimSpace(line)
	if err != nil || len(mark) != 2*markBytes {
		return errors.New("launch: a guard is started by an agent, never by hand")
	}
	io.Copy(io.Discard, lines) // blocks until the agent's end
	return killMarked(mark)
}

// with returns argv followed by args, as a slice of its own.
func with(argv []string, args ...string) []string {
	return append(slices.Clone(argv), args...)
}
