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

	"github.com/ddprun/ddprun/launch/agree"
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
	self           agree.Node
	spawner        *spawner
	archive        archive
	peers          *peers // nil: one node
	stores         stores
	stdout, stderr *screen
	signals        chan os.Signal
	inputs         chan agree.Input
	leaving        chan struct{}              // closed when a signal has asked for a stop with a checkpoint
	startErr       error                      // why this node could not start a worker
	fatal          chan error                 // why this node cannot take part at all
	view           atomic.Pointer[agree.View] // the newest, for status

	began time.Time               // the machine's clock is the time since then
	shown atomic.Pointer[attempt] // the newest whose workers have all been started, for status

	// Of the driver alone.
	policy   stopPolicy
	stop     os.Signal // the signal that asked for the end of the run; nil: none
	graceful <-chan time.Time
	lease    agree.Lease
	current  *attempt // the workers that this node has, or had last
	outcome  Outcome
}

// Run runs this node's part of a run: it finds the other nodes where there are any, starts NProc workers for each
// generation that the nodes agree on, and waits for the end. What happens meanwhile it tells to c.Logger, a failed worker's last
// lines to c.Stderr.
//
// It takes the process's signals. USR1, HUP, and a first TERM or INT make this node leave: all workers write a checkpoint, and the run goes
// on without it where others remain. A second INT, or a TERM more than two seconds after the first, ends its workers at once. The end of
// ctx does so too, and is returned.
//
// An OutputDir is locked for this run alone, by .ddprun/lock in it; another run there is refused with ExitConfig.
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
	exclusive := c.OutputDir == "" && c.MaxNodes == 1
	if c.OutputDir != "" {
		var release func()
		release, exclusive, err = lockOutput(c.OutputDir, c.RunID, c.MaxNodes > 1, func(err error) {
			c.Logger.Warn().Err(err).Msg("two runs in one output directory would not be noticed at once")
		})
		if err != nil {
			return Outcome{Code: ExitConfig}, err
		}
		defer release()
	}
	if c.LogDir != "" {
		if err := os.MkdirAll(c.LogDir, 0o777); err != nil {
			return failed, fmt.Errorf("launch: log directory: %w", err)
		}
	}
	host, _ := os.Hostname()
	r := &run{
		Config: c, argv: worker, threads: threadsPerRank(c), mark: randomHex(markBytes),
		self:    agree.Node{ID: nodeID(c.NodeRank), Rank: c.NodeRank, NProc: c.NProc, Host: host, Note: c.Note, Remedy: c.Remedy},
		archive: newArchive(c), stdout: &screen{w: c.Stdout}, stderr: &screen{w: c.Stderr},
		inputs: make(chan agree.Input, 1024), fatal: make(chan error, 1), leaving: make(chan struct{}), began: time.Now(),
	}
	r.stores.local = pipe.NewMemStore()
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
	if c.MaxNodes > 1 {
		if r.peers, err = r.meet(ctx); err != nil {
			return Outcome{Code: ExitConfig}, err
		}
		defer r.peers.close()
	}
	closeWindows, err := r.openWindows()
	if err != nil {
		return Outcome{Code: ExitConfig}, err
	}
	defer closeWindows()
	reports := reportTo(c.TrainJob, reportEvery, r.status, func(err error) {
		c.Logger.Warn().Err(err).Msg("Kubeflow's Trainer is not told how far the run is; the run goes on")
	})
	defer func() { reports.close(r.outcome.Code == ExitDone) }()
	return r.drive(ctx, exclusive)
}

// nodeID names this agent: its node rank where it has one, and what no other has.
func nodeID(rank int) string {
	if rank < 0 {
		return "x-" + randomHex(4)
	}
	return fmt.Sprintf("%d-%s", rank, randomHex(4))
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

// giveUp ends this node's part of the run: it cannot take part, and another start would not change that.
func (r *run) giveUp(err error) {
	select {
	case r.fatal <- err:
	default: // there is a reason already
	}
}

// stopBy notes that s asks for a stop with a checkpoint. It says whether that is new.
func (r *run) stopBy(s os.Signal) bool {
	if r.stop != nil {
		return false
	}
	r.stop = s
	close(r.leaving)
	message := "stopping with a checkpoint"
	if s == syscall.SIGINT {
		message += "; again to stop at once"
	}
	r.Logger.Warn().Str("signal", signalName(s)).Stringer("grace", r.Grace).Msg(message)
	return true
}

// signalCode is the exit code of a run that signal s ended.
func signalCode(s os.Signal) int { return ExitSignal + int(s.(syscall.Signal)) }
