package launch

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ddprun/ddprun/launch/pipe"
)

// firstFailure returns the worker whose failure ended the attempt, with the time it was noticed: the first one that is
// not an echo of another. A wrong configuration goes before all, since its echoes may arrive earlier than it. nil: no
// worker has failed by itself.
func (a *attempt) firstFailure() (first *worker, firstAt time.Time) {
	for _, w := range a.workers {
		at, failed := a.failedBy(w)
		if failed && (first == nil || precedes(w, at, first, firstAt)) {
			first, firstAt = w, at
		}
	}
	return first, firstAt
}

// obeyed says whether w, during its set-up, was ended by a signal that means the end of the job: one that came before w
// had made itself deaf to it, though Go's runtime may act on it a little later. With a stop requested of the agent too, w
// has done as asked, and as no step was taken, nothing is lost.
func obeyed(w *worker) bool {
	phase := w.report.Progress.Phase
	return (phase == "" || phase == pipe.PhaseSetup) && slices.Contains(pipe.JobSignals, os.Signal(signalOf(w)))
}

// precedes says whether w's failure is nearer to the cause than other's.
func precedes(w *worker, at time.Time, other *worker, otherAt time.Time) bool {
	if rank, otherRank := echo(w), echo(other); rank != otherRank {
		return rank < otherRank
	}
	return at.Before(otherAt)
}

// echo orders failures by how likely they are another's echo.
func echo(w *worker) int {
	switch {
	case w.state.ExitCode() == ExitConfig:
		return 0
	case w.fault == nil && w.report.Error != nil && w.report.Error.Secondary:
		return 2
	default:
		return 1
	}
}

// failedBy says whether w has failed by itself, and when. What a worker does after it was told to stop because another
// has failed is its answer to that, unless its account, its exit code or a signal says otherwise.
func (a *attempt) failedBy(w *worker) (time.Time, bool) {
	if w.fault != nil {
		return w.fault.at, a.stopped.IsZero() || !w.fault.at.After(a.stopped)
	}
	if !bad(w) {
		return time.Time{}, false
	}
	at, own := w.exitAt, signalOf(w) != 0 || w.state.ExitCode() == ExitConfig
	if w.report.Error != nil {
		at, own = w.report.ErrorAt, !w.report.Error.Secondary
	}
	asked := !a.stopped.IsZero() && at.After(a.stopped)
	byUs := !a.killed.IsZero() && at.After(a.killed) && w.report.Error == nil
	return at, !byUs && (!asked || own)
}

// describe says what is known of w's failure.
func (a *attempt) describe(w *worker) *Failure {
	f := &Failure{
		Rank: w.start.Rank, LocalRank: w.start.LocalRank, PID: w.process.Pid,
		ExitCode: w.state.ExitCode(), Signal: signalOf(w),
		Phase: w.report.Progress.Phase, Step: w.report.Progress.Step,
		LastLines: w.tail.last(), LogDir: w.start.LogDir,
	}
	switch e := w.report.Error; {
	case w.fault != nil:
		f.Message, f.LastLines = w.fault.message, w.fault.lastLines
	case e != nil:
		f.Message, f.Stack, f.Phase, f.Step, f.Permanent = e.Message, e.Stack, e.Phase, e.Step, e.Permanent
	case w.report.Fault != nil:
		f.Message = w.report.Fault.Error()
	case f.Signal == syscall.SIGKILL:
		f.Message = "killed (SIGKILL), as the kernel does when memory is short"
	case f.Signal != 0:
		f.Message = fmt.Sprintf("killed by %s", unix.SignalName(f.Signal))
	case f.ExitCode == ExitDone:
		f.Message = "it exited before its work was done"
	default:
		f.Message = "it gave no account of why; the end of its output may"
	}
	f.Message, f.Stack = escapeText(f.Message), escapeText(f.Stack) // a worker's words go to terminals and to error.json
	return f
}

// signalOf returns the signal that ended w, 0 if none did.
func signalOf(w *worker) syscall.Signal {
	if status := w.state.Sys().(syscall.WaitStatus); status.Signaled() {
		return status.Signal()
	}
	return 0
}
