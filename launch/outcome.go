package launch

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ddprun/ddprun/launch/pipe"
)

// Exit codes of an agent, which a scheduler may act on. A worker uses ExitDone, ExitFailed, ExitComeAgain and ExitConfig in
// the same sense. 2 is what a crashing Go program returns and is never used on purpose.
const (
	ExitDone       = 0   // done: every worker has finished
	ExitFailed     = 1   // failed: restarts used up, or a fault that no restart mends
	ExitComeAgain  = 75  // stopped on request with a checkpoint: start the same command again (EX_TEMPFAIL of sysexits.h)
	ExitConfig     = 78  // wrong configuration or input: never started again (EX_CONFIG of sysexits.h)
	ExitNoProgress = 93  // three failures without a newer checkpoint in between
	ExitSignal     = 128 // ExitSignal+n: ended by signal n before a checkpoint was written
)

// Outcome says how a run ended.
type Outcome struct {
	Code     int      // one of the Exit constants: what the process should exit with
	Attempts int      // how often the workers were started
	Failure  *Failure // the failure that ended the last attempt; nil if that did not fail
}

// Failure is the failure of one worker: the first of its attempt.
// It travels between agents as JSON.
type Failure struct {
	Host      string    // name of its node
	At        time.Time // when it was noticed there
	Rank      int       // -1: of no worker, a node was lost
	LocalRank int
	PID       int
	ExitCode  int            // -1 if a signal ended the process
	Signal    syscall.Signal // 0 if none
	Message   string         // the worker's own account, or what can be said from outside
	Stack     string         // from the worker's account; usually empty
	Phase     pipe.Phase     // what the worker was doing; empty if it never said
	Step      int64          // optimizer steps it had finished
	LastLines []string       // the end of its output, control characters escaped
	LogDir    string         // holds its stdout.log, stderr.log and error.json; empty if nothing is filed
	Permanent bool           // starting again would fail the same way
}

// Error describes the failure in one line.
func (f *Failure) Error() string {
	var b strings.Builder
	if f.Rank < 0 {
		return f.Message
	}
	fmt.Fprintf(&b, "rank %d (pid %d) failed", f.Rank, f.PID)
	if f.Phase != "" {
		fmt.Fprintf(&b, " in %s at step %d", f.Phase, f.Step)
	}
	fmt.Fprintf(&b, ": %s", f.Message)
	if status := f.status(); !strings.Contains(f.Message, status) {
		fmt.Fprintf(&b, " (%s)", status)
	}
	if f.LogDir != "" {
		fmt.Fprintf(&b, "; its logs are in %s", f.LogDir)
	}
	return b.String()
}

// status says how the process ended.
func (f *Failure) status() string {
	if f.Signal != 0 {
		return fmt.Sprintf("signal %d, %s", int(f.Signal), unix.SignalName(f.Signal))
	}
	return fmt.Sprintf("exit code %d", f.ExitCode)
}
