package launch

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ddprun/ddprun/launch/agree"
	"github.com/ddprun/ddprun/launch/pipe"
)

// killAfter is how long workers get to end by themselves when another one has failed.
const killAfter = time.Second

// sameSignal is how long after a worker a signal to the whole job reaches the agent at the latest.
const sameSignal = 500 * time.Millisecond

// attempt is one generation's workers on this node.
type attempt struct {
	run     *run
	record  agree.Record
	me      agree.Member
	dir     string        // of the generation's logs; empty: none
	mu      sync.Mutex    // guards what the driver's goroutine looks at while workers are being started
	workers []*worker     // grows in startWorkers alone
	until   time.Duration // their lease, on pipe.Boottime; 0: none
	exits   chan *worker  // workers that have ended
	accused chan *worker  // workers that have reported an error, and one that the watch has found at fault
	orders  chan order
	ended   chan struct{} // closed when no worker is left

	telling  sync.WaitGroup   // the goroutines of tell
	unwatch  func()           // ends the watch: what workers do from now on is asked of them
	asked    bool             // the workers were asked to stop with a checkpoint
	stopped  time.Time        // when the workers were told that one has failed; zero: none has
	killed   time.Time        // when the agent killed whoever was left; zero: it has not
	deadline <-chan time.Time // when that is due; nil: not yet
}

// order is what the driver wants of an attempt's workers.
type order struct {
	how    agree.StopHow // empty: kill them
	reason string
	stacks bool // instead: show their stacks
}

// newAttempt prepares this node's part of a generation; work does it.
func (r *run) newAttempt(record agree.Record) *attempt {
	return &attempt{run: r, record: record, me: record.Members[record.Index(r.self.ID)],
		exits: make(chan *worker, r.NProc), accused: make(chan *worker, r.NProc+1),
		orders: make(chan order, 64), ended: make(chan struct{})}
}

// work starts the workers, steers them to their end, and tells the driver how that came about.
func (a *attempt) work() {
	defer close(a.ended)
	if err := a.startWorkers(); err != nil {
		a.kill()
		a.watch()
		a.run.tell(agree.WorkersFailed{Number: a.record.Number, Failure: a.failureToStart(err)})
		a.run.tell(agree.WorkersDown{Number: a.record.Number, End: agree.Failed})
		return
	}
	a.watch()
	a.awaitSignal()
	down := agree.WorkersDown{Number: a.record.Number, End: a.end(), Checkpoint: a.newCheckpoint()}
	if first, at := a.firstFailure(); down.End == agree.Failed {
		a.run.tell(a.failed(a.describe(first), first, at))
	}
	a.run.tell(down)
}

// startWorkers starts the workers of this node.
func (a *attempt) startWorkers() error {
	r := a.run
	if r.LogDir != "" {
		a.dir = filepath.Join(r.LogDir, attemptName(a.record.Number))
		r.prune(a.record.Number)
	}
	store := r.storeOf(a.record)
	for local := range r.NProc {
		start := a.startMessage(local)
		if start.LogDir != "" {
			if err := os.MkdirAll(start.LogDir, 0o777); err != nil {
				return fmt.Errorf("launch: log directory: %w", err)
			}
		}
		w, err := startWorker(r.spawner, r.argv, workerEnv(r.Env, start, a.record.Restarts, r.Config, r.mark), start, store, a.outlet(start))
		if err != nil {
			return err
		}
		a.add(w)
		if start.Debug {
			r.Logger.Warn().Int("rank", start.Rank).Int("pid", w.process.Pid).
				Msgf("rank %d waits for a debugger: gdb -p %d, or dlv attach %d", start.Rank, w.process.Pid, w.process.Pid)
		}
		go a.follow(w)
	}
	r.shown.Store(a)
	r.Logger.Info().Int("nproc", r.NProc).Int("threads", r.threads).Int("generation", a.record.Number).
		Str("log_dir", a.dir).Msg("workers started")
	return nil
}

// startMessage says what a worker of this node is told.
func (a *attempt) startMessage(local int) pipe.Start {
	rank := a.me.FirstRank + local
	host := a.me.Addr
	if len(a.record.Members) == 1 {
		host = "127.0.0.1"
	}
	return pipe.Start{
		Config: a.run.ConfigJSON, RunID: a.run.RunID, Generation: a.record.Number,
		OutputDir: a.run.OutputDir, LogDir: a.rankDir(rank),
		Rank: rank, LocalRank: local, WorldSize: a.record.World, LocalWorldSize: a.me.NProc,
		NodeRank: a.me.GroupRank, NodeCount: len(a.record.Members), Nodes: nodesOf(a.record),
		MinWorld: a.run.MinNodes * a.run.NProc, MaxWorld: max(a.record.World, a.record.MaxWorld), StartStep: a.record.Start,
		Threads: a.run.threads, Host: host,
		Debug: slices.Contains(a.run.DebugRanks, rank), Debugging: len(a.run.DebugRanks) > 0,
	}
}

// nodesOf says where the ranks of a generation are.
func nodesOf(record agree.Record) []pipe.Node {
	nodes := make([]pipe.Node, len(record.Members))
	for i, m := range record.Members {
		nodes[i] = pipe.Node{ID: m.ID, Name: m.Host, Address: m.Addr, FirstRank: m.FirstRank, Ranks: m.NProc}
	}
	return nodes
}

// outlet says where the output of a rank goes.
func (a *attempt) outlet(start pipe.Start) outlet {
	out := outlet{dir: start.LogDir, maxLog: a.run.LogMaxSize, log: a.run.Logger.With().Int("rank", start.Rank).Logger()}
	out.stdout, out.stderr = a.run.screens(start.Rank, a.run.stdout, a.run.stderr)
	return out
}

func (a *attempt) rankDir(rank int) string {
	if a.dir == "" {
		return ""
	}
	return filepath.Join(a.dir, strconv.Itoa(rank))
}

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
func (a *attempt) watch() {
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
		case o := <-a.orders:
			a.obey(o)
		case <-a.deadline:
			a.killAtDeadline()
		}
	}
	a.unwatch()
	watching.Wait()
	a.telling.Wait()
	for _, w := range a.workers {
		w.awaitOutput()
	}
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
	e := w.agent.Report().Error
	ended := e == nil && w.fault == nil
	quiet := ended && obeyed(w) || e == nil && a.wasAsked() // a signal to the whole job may have ended it, and be on its way to the agent
	if !quiet {                                             // the driver hears of it now, and of the first failure when all have ended
		f := &Failure{Rank: w.start.Rank, ExitCode: -1, Message: fmt.Sprintf("rank %d failed", w.start.Rank)}
		switch {
		case e != nil:
			f.Message, f.Permanent = e.Message, e.Permanent
		case w.fault != nil:
			f.Message = w.fault.message
		}
		early := a.failed(f, nil, a.stopped)
		if e == nil || !e.Secondary {
			early.Failure.Echo = 1
		}
		a.run.tell(early)
	}
	if w.fault != nil {
		w.kill() // it would not obey, and the others wait for it
	}
}

// obey does what the driver wants.
func (a *attempt) obey(o order) {
	switch {
	case o.stacks:
		a.telling.Go(func() { a.showStacks(context.Background()) })
	case o.how == agree.StopCheckpoint:
		a.asked = true
		a.tell(pipe.Stop{Reason: o.reason, How: pipe.StopCheckpoint})
	case o.how == agree.StopNow:
		if a.killed.IsZero() && a.stopped.IsZero() {
			a.stopped = time.Now()
			a.unwatch()
			a.tell(pipe.Stop{Reason: o.reason, How: pipe.StopNow})
			a.deadline = time.After(killAfter)
		}
	default:
		a.kill()
	}
}

// wasAsked says whether the workers were to stop with a checkpoint, also where they have not been told yet: a signal to the whole job may reach them first.
func (a *attempt) wasAsked() bool {
	select {
	case <-a.run.leaving:
		return true
	default:
		return a.asked
	}
}

// awaitSignal gives a signal that has ended a worker in its set-up, and so goes to the whole job, the time to reach the agent as well.
func (a *attempt) awaitSignal() {
	if first, _ := a.firstFailure(); first == nil || !obeyed(first) {
		return
	}
	select {
	case <-a.run.leaving:
	case <-time.After(sameSignal):
	}
}

// stop gives an order. It never blocks: an attempt that has 64 of them before it has all that it needs.
func (a *attempt) stop(o order) {
	select {
	case a.orders <- o:
	default:
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

// end says how the workers have ended.
func (a *attempt) end() agree.End {
	first, _ := a.firstFailure()
	if first != nil && !(a.wasAsked() && obeyed(first)) {
		return agree.Failed
	}
	end := agree.Finished
	for _, w := range a.workers {
		switch w.state.ExitCode() {
		case ExitDone:
		case ExitComeAgain:
			end = max(end, agree.Stopped)
		default:
			if first == nil {
				return agree.Killed // by the agent
			}
			end = max(end, agree.Stopped)
		}
	}
	return end
}

// newCheckpoint is the step of the newest checkpoint that this attempt has made, 0 if it has made none.
func (a *attempt) newCheckpoint() int64 {
	var resumed, checkpoint int64
	for _, w := range a.workers {
		resumed, checkpoint = max(resumed, w.report.Resumed), max(checkpoint, w.report.Progress.Checkpoint)
	}
	if checkpoint <= resumed {
		return 0
	}
	return checkpoint
}

// failed is what the machine is told of a failure. w is the worker, as far as it has ended.
func (a *attempt) failed(f *Failure, w *worker, at time.Time) agree.WorkersFailed {
	f.Host, f.At = a.run.self.Host, at
	detail, err := json.Marshal(f)
	if err != nil {
		panic(err) // a struct of texts and numbers
	}
	known := agree.Failure{Node: a.run.self.ID, Rank: f.Rank, Echo: 2, ExitCode: f.ExitCode, Permanent: f.Permanent, Message: f.Message, Detail: detail}
	if w != nil {
		known.Echo = echo(w)
	}
	return agree.WorkersFailed{Number: a.record.Number, Failure: known}
}

// failureToStart is the failure of a node on which a worker cannot be started.
func (a *attempt) failureToStart(err error) agree.Failure {
	a.run.startErr = err
	f := &Failure{Rank: a.me.FirstRank, ExitCode: ExitFailed, Message: err.Error(), Permanent: !pipe.Passing(err)}
	failure := a.failed(f, nil, time.Now()).Failure
	failure.Echo = 1
	return failure
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

// lease lets the workers run until a time on the machine's clock, and no longer without another word.
func (a *attempt) lease(until time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.until = pipe.Boottime() + until - a.run.now()
	for _, w := range a.workers {
		w.agent.Lease(a.until)
	}
}

// add takes up a worker that was started.
func (a *attempt) add(w *worker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.until != 0 {
		w.agent.Lease(a.until)
	}
	a.workers = append(a.workers, w)
}
