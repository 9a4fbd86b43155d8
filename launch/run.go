package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ddprun/ddprun/launch/pipe"
)

// markBytes is the length of a run's mark, which is written in hexadecimal.
const markBytes = 16

// active is whether a Run is under way: it takes signals and orphans for the whole process.
var active atomic.Bool

// run is the state of a Run.
type run struct {
	Config
	argv           []string // of a worker, the program as a path
	threads        int      // of a worker
	mark           string   // in the environment of all processes of this run
	spawner        *spawner
	store          *pipe.MemStore
	stdout, stderr *screen
	signals        chan os.Signal
	policy         stopPolicy
	stop           os.Signal // the signal that asked for the end of the run; nil: none
	budget         budget
	outcome        Outcome

	// For status, which other goroutines ask for.
	host  string
	pid   int
	began time.Time
	shown atomic.Pointer[attempt] // the newest whose workers have all been started
}

// Run starts NProc workers on this node, again after failures as far as the budget allows, and waits for their end. What
// happens meanwhile it tells to c.Logger, a failed worker's last lines to c.Stderr.
//
// It takes the process's signals. USR1, HUP, and a first TERM or INT make the workers write a checkpoint and exit; a second
// INT, or a TERM more than two seconds after the first, ends them at once. The end of ctx does so too, and is returned.
//
// An OutputDir is locked for this run alone, by .ddprun/lock in it; a second run there is refused with ExitConfig.
//
// The error is not nil where the run could not be carried out at all; Outcome.Code fits it too. When Run returns, no
// process that it started is left.
func Run(ctx context.Context, c Config) (Outcome, error) {
	c, err := c.withDefaults()
	if err != nil {
		return Outcome{Code: ExitConfig}, err
	}
	failed := Outcome{Code: ExitFailed}
	if !active.CompareAndSwap(false, true) {
		return failed, errors.New("launch: another run is active in this process")
	}
	defer active.Store(false)
	worker, helper, err := programs(c)
	if err != nil {
		return failed, err
	}
	if err := closeOnExecAll(); err != nil {
		return failed, err
	}
	if c.OutputDir != "" {
		release, err := lockOutput(c.OutputDir, func(err error) {
			c.Logger.Warn().Err(err).Msg("two runs in one output directory would not be noticed")
		})
		if err != nil {
			return Outcome{Code: ExitConfig}, err
		}
		defer release()
	}
	r := &run{
		Config: c, argv: worker, threads: threadsPerRank(c), mark: randomHex(markBytes),
		store: pipe.NewMemStore(), stdout: &screen{w: c.Stdout}, stderr: &screen{w: c.Stderr},
		budget: budget{maxRestarts: c.MaxRestarts},
		pid:    os.Getpid(), began: time.Now(),
	}
	r.host, _ = os.Hostname()
	var release func()
	r.signals, release = notifySignals()
	defer release()
	if r.spawner, err = newSpawner(); err != nil {
		return failed, err
	}
	defer r.spawner.close()
	reaper, err := newReaper(r.spawner)
	if err != nil {
		return failed, err
	}
	defer reaper.close()
	if len(helper) > 0 {
		guard, err := startGuard(r.spawner, helper, r.mark)
		if err != nil {
			return failed, err
		}
		defer guard.close(r.spawner)
	}
	closeWindows, err := r.openWindows()
	if err != nil {
		return Outcome{Code: ExitConfig}, err
	}
	defer closeWindows()
	return r.attempts(ctx)
}

// programs returns how to start a worker and, where there is one, a helper, with their programs as paths.
func programs(c Config) (worker, helper []string, err error) {
	path, err := exec.LookPath(c.Worker[0])
	if err != nil {
		return nil, nil, fmt.Errorf("launch: worker program: %w", err)
	}
	worker = with([]string{path}, c.Worker[1:]...)
	if len(c.Helper) == 0 {
		return worker, nil, nil
	}
	if path, err = exec.LookPath(c.Helper[0]); err != nil {
		return nil, nil, fmt.Errorf("launch: helper program: %w", err)
	}
	helper = with([]string{path}, c.Helper[1:]...)
	return with(with(helper, roleExec), worker...), helper, nil
}

// attempts starts the workers until they end well, are asked to stop, or the budget is used up.
func (r *run) attempts(ctx context.Context) (Outcome, error) {
	for {
		a, err := r.startAttempt()
		if err != nil {
			r.outcome.Code = ExitFailed
			return r.outcome, err
		}
		a.watch(ctx)
		again := r.conclude(a)
		if err := ctx.Err(); err != nil && (again || !a.killed.IsZero()) {
			r.outcome.Code = ExitFailed
			return r.outcome, err
		}
		if !again {
			return r.outcome, nil
		}
	}
}

// conclude sets the outcome of an attempt that has ended, and says whether another one follows.
func (r *run) conclude(a *attempt) (again bool) {
	first, at := a.firstFailure()
	if first == nil {
		r.outcome.Failure, r.outcome.Code = nil, r.quietCode(a)
		return false
	}
	if r.stop != nil && obeyed(first) {
		r.outcome.Failure, r.outcome.Code = nil, ExitComeAgain
		return false
	}
	failure := a.describe(first)
	r.outcome.Failure = failure
	r.report(a, failure, at)
	var resumed, checkpoint int64
	for _, w := range a.workers {
		resumed, checkpoint = max(resumed, w.report.Resumed), max(checkpoint, w.report.Progress.Checkpoint)
	}
	v := r.budget.after(failure, resumed, checkpoint)
	if r.stop != nil && (v.restart || v.code != ExitConfig && !failure.Permanent) {
		v = verdict{code: signalCode(r.stop), reason: "it was asked to stop by " + signalName(r.stop)}
	}
	if v.restart {
		r.Logger.Warn().Int("restart", r.budget.restarts).Int("max_restarts", r.MaxRestarts).Int64("checkpoint", r.budget.newest).
			Msg("starting the workers again")
		return true
	}
	r.outcome.Code = v.code
	r.Logger.Error().Int("exit_code", v.code).Msg("not starting again: " + v.reason)
	return false
}

// quietCode is the exit code of an attempt in which no worker failed by itself.
func (r *run) quietCode(a *attempt) int {
	code := ExitDone
	for _, w := range a.workers {
		switch w.state.ExitCode() {
		case ExitDone:
		case ExitComeAgain:
			code = ExitComeAgain
		default:
			// Killed by the agent: at a signal's word, or because ctx has ended, which Run's caller is told.
			if r.stop == nil {
				return ExitFailed
			}
			return signalCode(r.stop)
		}
	}
	return code
}

// report tells of a failure and files it.
func (r *run) report(a *attempt, f *Failure, at time.Time) {
	event := r.Logger.Error().Int("rank", f.Rank).Int("local_rank", f.LocalRank).Int("world_size", r.NProc).
		Int("generation", a.number).Int("pid", f.PID).Int64("step", f.Step).Str("phase", string(f.Phase))
	event.Msg(f.Error())
	if !r.shows(f.Rank) {
		var lines []byte
		for _, line := range f.LastLines {
			lines = fmt.Appendf(lines, "[rank %d] %s\n", f.Rank, line)
		}
		r.stderr.write(lines)
	}
	if f.LogDir == "" {
		return
	}
	if err := writeErrorFile(f, at); err != nil {
		r.Logger.Warn().Err(err).Msg("the failure is not filed")
	}
}

// stopBy notes that s asks for a stop with a checkpoint. It says whether that is new.
func (r *run) stopBy(s os.Signal) bool {
	if r.stop != nil {
		return false
	}
	r.stop = s
	message := "stopping with a checkpoint"
	if s == syscall.SIGINT {
		message += "; again to stop at once"
	}
	r.Logger.Warn().Str("signal", signalName(s)).Stringer("grace", r.Grace).Msg(message)
	return true
}

// signalCode is the exit code of a run that signal s ended.
func signalCode(s os.Signal) int { return ExitSignal + int(s.(syscall.Signal)) }
