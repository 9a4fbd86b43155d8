package launch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ddprun/ddprun/launch/pipe"
)

// killAfter is how long workers get to end by themselves when another one has failed.
const killAfter = time.Second

// attempt is one start of all workers.
type attempt struct {
	run      *run
	dir      string // of its logs; empty: none
	number   int    // generation
	restarts int    // before it
	workers  []*worker
	exits    chan *worker // workers that have ended
	accused  chan *worker // workers that have reported an error, and one that the watch has found at fault

	telling  sync.WaitGroup   // the goroutines of tell
	unwatch  func()           // ends the watch: what workers do from now on is asked of them
	stopped  time.Time        // when the workers were told that one has failed; zero: none has
	killed   time.Time        // when the agent killed whoever was left; zero: it has not
	deadline <-chan time.Time // when that is due; nil: not yet
}

// startAttempt starts all workers. If one does not start, the others are ended again.
func (r *run) startAttempt() (*attempt, error) {
	a := &attempt{run: r, number: r.outcome.Attempts, restarts: r.outcome.Attempts, exits: make(chan *worker, r.NProc), accused: make(chan *worker, r.NProc+1)}
	if r.LogDir != "" {
		var err error
		if a.dir, a.number, err = attemptDir(r.LogDir, r.NProc); err != nil {
			return nil, err
		}
		r.prune(a.number)
	}
	r.outcome.Attempts++
	store := pipe.Prefix(r.store, a.prefix())
	for rank := range r.NProc {
		start := a.startMessage(rank)
		env := workerEnv(r.Env, start, r.outcome.Attempts-1, r.Config, r.mark)
		w, err := startWorker(r.spawner, r.argv, env, start, store, a.outlet(rank))
		if err != nil {
			a.kill()
			a.watch(context.Background())
			return nil, err
		}
		a.workers = append(a.workers, w)
		if start.Debug {
			r.Logger.Warn().Int("rank", start.Rank).Int("pid", w.process.Pid).
				Msgf("rank %d waits for a debugger: gdb -p %d, or dlv attach %d", start.Rank, w.process.Pid, w.process.Pid)
		}
		go a.follow(w)
	}
	r.shown.Store(a)
	r.Logger.Info().Int("nproc", r.NProc).Int("threads", r.threads).Int("generation", a.number).
		Str("log_dir", a.dir).Msg("workers started")
	return a, nil
}

// startMessage says what the worker of a rank is told. One node: the rank is the local rank.
func (a *attempt) startMessage(rank int) pipe.Start {
	return pipe.Start{
		Config: a.run.ConfigJSON, RunID: a.run.RunID, Generation: a.number,
		OutputDir: a.run.OutputDir, LogDir: a.rankDir(rank),
		Rank: rank, LocalRank: rank, WorldSize: a.run.NProc, LocalWorldSize: a.run.NProc, NodeRank: 0, NodeCount: 1,
		Threads: a.run.threads, Host: "127.0.0.1",
		Debug: slices.Contains(a.run.DebugRanks, rank), Debugging: len(a.run.DebugRanks) > 0,
	}
}

// outlet says where the output of a rank goes.
func (a *attempt) outlet(rank int) outlet {
	out := outlet{dir: a.rankDir(rank), maxLog: a.run.LogMaxSize, log: a.run.Logger.With().Int("rank", rank).Logger()}
	out.stdout, out.stderr = a.run.screens(rank, a.run.stdout, a.run.stderr)
	return out
}

func (a *attempt) rankDir(rank int) string {
	if a.dir == "" {
		return ""
	}
	return filepath.Join(a.dir, strconv.Itoa(rank))
}

// prefix is the attempt's part of the store.
func (a *attempt) prefix() string { return fmt.Sprintf("generation-%d/", a.number) }

// follow sends w on accused if it reports an error, and on exits when it has ended.
func (a *attempt) follow(w *worker) {
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		select {
		case <-w.agent.Failed():
			a.accused <- w
		case <-w.agent.Ended():
		}
	}()
	if err := w.wait(a.run.spawner, a.run.mark); err != nil {
		a.run.Logger.Error().Err(err).Int("rank", w.start.Rank).Msg("a worker's end could not be observed")
	}
	<-reported
	a.exits <- w
}

// watch steers the workers until the last one has ended and its output is out.
func (a *attempt) watch(ctx context.Context) {
	cancelled := ctx.Done()
	watching := a.beginWatch()
	for running := len(a.workers); running > 0; {
		select {
		case w := <-a.exits:
			running--
			if bad(w) {
				a.stopFor(w)
			}
		case w := <-a.accused:
			a.stopFor(w)
		case s := <-a.run.signals:
			a.onSignal(s)
		case <-a.deadline:
			a.killAtDeadline()
		case <-cancelled:
			cancelled = nil
			a.kill()
		}
	}
	a.unwatch()
	watching.Wait()
	a.telling.Wait()
	for _, w := range a.workers {
		w.awaitOutput()
	}
	a.run.store.Drop(a.prefix())
}

// stopFor ends the attempt because w has failed.
func (a *attempt) stopFor(w *worker) {
	if !a.stopped.IsZero() || !a.killed.IsZero() {
		return
	}
	a.stopped = time.Now()
	a.unwatch()
	a.tell(pipe.Stop{Reason: fmt.Sprintf("rank %d failed", w.start.Rank), How: pipe.StopNow})
	a.deadline = time.After(killAfter)
	if w.fault != nil {
		w.kill() // it would not obey, and the others wait for it
	}
}

// onSignal does what a signal to the agent asks for.
func (a *attempt) onSignal(s os.Signal) {
	r := a.run
	switch r.policy.on(s, time.Now()) {
	case requestStop:
		if !r.stopBy(s) {
			return
		}
		a.tell(pipe.Stop{Reason: signalName(s), How: pipe.StopCheckpoint})
		if a.stopped.IsZero() {
			a.deadline = time.After(r.Grace)
		}
	case requestKill:
		r.Logger.Warn().Str("signal", signalName(s)).Msg("stopping at once, without a checkpoint")
		r.stop = s
		a.kill()
	case requestStacks:
		a.telling.Go(func() { a.showStacks(context.Background()) })
	}
}

// tell sends all workers a Stop, each from a goroutine of its own: one that does not read holds up no other.
func (a *attempt) tell(stop pipe.Stop) {
	for _, w := range a.workers {
		a.telling.Go(func() { w.agent.Stop(stop) }) // fails for one that has ended; ends with the line at the latest
	}
}

// killAtDeadline kills the workers, but for one that somebody looks at with a debugger: the attempt ends when that has ended, or at a second INT.
func (a *attempt) killAtDeadline() {
	a.killed = time.Now()
	for _, w := range a.workers {
		if w.start.Debug && tracerOf(w.process.Pid) != 0 {
			a.run.Logger.Warn().Int("rank", w.start.Rank).Int("pid", w.process.Pid).Msg("the other workers have ended; this one is left to its debugger")
			continue
		}
		w.kill()
	}
}

// kill ends all workers at once.
func (a *attempt) kill() {
	if a.killed.IsZero() {
		a.killed = time.Now()
	}
	for _, w := range a.workers {
		w.kill()
	}
}

// bad says whether a worker that has ended has failed.
func bad(w *worker) bool {
	switch code := w.state.ExitCode(); {
	case w.report.Error != nil:
		return true
	case code == ExitDone:
		return w.report.Done == nil
	default:
		return code != ExitComeAgain
	}
}

func signalName(s os.Signal) string { return unix.SignalName(s.(syscall.Signal)) }
