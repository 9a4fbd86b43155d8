package launch

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/ddprun/ddprun/launch/agree"
)

// minTick keeps a machine that is always due from taking a core.
const minTick = time.Millisecond

// drive feeds the machine with what happens and does what it says, until its Exit.
func (r *run) drive(ctx context.Context, exclusive bool) (Outcome, error) {
	machine := agree.New(agree.Config{
		Self: r.self, RunID: r.RunID, Digest: r.Digests["configuration"], MinNodes: r.MinNodes, MaxNodes: r.MaxNodes,
		MaxRestarts: r.MaxRestarts, LastCall: r.LastCall, JoinTimeout: r.JoinTimeout, RejoinTimeout: r.RejoinTimeout, LeaversReturn: r.LeaversReturn,
		Lease: r.Lease, Exclusive: exclusive, SkipFinished: r.MaxNodes > 1,
	}, r.now())
	timer := time.NewTimer(0)
	defer timer.Stop()
	cancelled := ctx.Done()
	var events <-chan agree.Input
	if r.peers != nil {
		events = r.peers.inputs
	}
	for {
		var in agree.Input
		select {
		case in = <-r.inputs:
		case in = <-events:
		case s := <-r.signals:
			in = r.onSignal(s)
		case <-r.graceful:
			r.graceful = nil
			in = agree.Kill{Code: signalCode(r.stop)}
		case err := <-r.fatal:
			r.startErr = err
			in = agree.Kill{Code: ExitConfig}
		case <-cancelled:
			cancelled = nil
			in = agree.Kill{Code: ExitFailed}
		case <-timer.C:
			in = agree.Tick{}
		}
		if in == nil {
			continue
		}
		for _, out := range machine.Handle(r.now(), in) {
			if exit, isExit := out.(agree.Exit); isExit {
				return r.exit(ctx, exit.Outcome)
			}
			r.do(out)
		}
		timer.Reset(max(minTick, machine.Next()-r.now()))
		view := machine.View()
		r.view.Store(&view)
	}
}

// now is the time on the machine's clock, which is monotonic.
func (r *run) now() time.Duration { return time.Since(r.began) }

// tell gives the machine an input from another goroutine.
func (r *run) tell(in agree.Input) { r.inputs <- in }

// do carries out what the machine says.
func (r *run) do(out agree.Output) {
	switch out := out.(type) {
	case agree.Send:
		r.peers.send(out.To, out.Message)
	case agree.ReadRecords:
		asked := r.now()
		r.archive.do(func(a files) { r.tell(a.read(asked, out.ClaimsOnly)) })
	case agree.Claim:
		r.archive.do(func(a files) { r.tell(a.claim(out.Record)) })
	case agree.WriteOutcome:
		r.archive.do(func(a files) { r.tell(agree.OutcomeWritten{Err: a.writeOutcome(out.Outcome)}) })
	case agree.TestPaths:
		go func() { r.tell(r.peers.testPaths(out.Number, out.Nodes)) }()
	case agree.StartWorkers:
		r.startWorkers(out.Record)
	case agree.StopWorkers:
		if r.current != nil && r.current.record.Number == out.Number {
			r.current.stop(order{how: out.How, reason: out.Reason})
		}
	case agree.Lease:
		r.lease = out // it may come before the workers
		if r.current != nil && r.current.record.Number == out.Number {
			r.current.lease(out.Until)
		}
	case agree.FirstFailure:
		r.report(out.Failure)
	case agree.Log:
		r.log(out)
	default:
		panic(fmt.Sprintf("launch: unknown output %T", out))
	}
}

// startWorkers begins this node's part of a generation.
func (r *run) startWorkers(record agree.Record) {
	if r.outcome.Attempts++; r.outcome.Attempts > 1 {
		r.Logger.Warn().Int("restart", record.Restarts).Int("max_restarts", r.MaxRestarts).Int64("checkpoint", record.Start).
			Str("cause", record.Cause).Msg("starting the workers again")
	}
	r.outcome.Failure = nil
	r.current = r.newAttempt(record)
	if r.lease.Number == record.Number && r.lease.Until > 0 {
		r.current.lease(r.lease.Until)
	}
	r.stores.begin(record.Number)
	go r.current.work()
	if r.peers != nil {
		r.peers.watchPaths(r.current)
	}
}

// onSignal returns what a signal to the agent asks of the machine; nil: nothing.
func (r *run) onSignal(s os.Signal) agree.Input {
	switch r.policy.on(s, time.Now()) {
	case requestStop:
		if !r.stopBy(s) {
			return nil
		}
		r.graceful = time.After(r.Grace)
		return agree.Leave{Reason: signalName(s)}
	case requestKill:
		r.Logger.Warn().Str("signal", signalName(s)).Msg("stopping at once, without a checkpoint")
		r.stop = s
		if r.current != nil {
			r.current.stop(order{})
		}
		return agree.Kill{Code: signalCode(s)}
	case requestStacks:
		if r.current != nil {
			r.current.stop(order{stacks: true})
		}
	}
	return nil
}

// exit ends what is left and says how the run ended.
func (r *run) exit(ctx context.Context, o agree.Outcome) (Outcome, error) {
	if r.current != nil {
		r.current.stop(order{})
		r.drain(r.current.ended)
	}
	r.archive.close()
	if r.peers != nil {
		r.peers.farewell()
	}
	r.outcome.Code = o.Code
	switch {
	case o.Failure == nil:
		r.outcome.Failure = nil
	case r.outcome.Failure == nil:
		r.outcome.Failure = failureOf(*o.Failure)
	}
	if failed := o.Failure != nil; r.stop != nil && (failed && !o.Failure.Permanent && o.Code == ExitComeAgain || !failed && o.Code == ExitFailed) {
		r.outcome.Code = signalCode(r.stop) // it failed while it was stopping: the signal has ended it, without a checkpoint
	}
	if r.outcome.Code != ExitDone && o.Reason != "" {
		r.Logger.Error().Int("exit_code", r.outcome.Code).Msg("the run ends: " + o.Reason)
	}
	if r.startErr != nil && r.outcome.Code != ExitDone {
		return r.outcome, r.startErr
	}
	if err := ctx.Err(); err != nil && o.Code != ExitDone && o.Code != ExitComeAgain {
		return r.outcome, err
	}
	return r.outcome, nil
}

// drain takes inputs that nobody needs any more until the workers have ended.
func (r *run) drain(ended <-chan struct{}) {
	for {
		select {
		case <-r.inputs:
		case <-ended:
			return
		}
	}
}

// report tells of a failure that has ended a generation, and files it.
func (r *run) report(known agree.Failure) {
	f := failureOf(known)
	r.outcome.Failure = f
	event := r.Logger.Error()
	if f.Rank >= 0 {
		event.Str("host", f.Host).Int("rank", f.Rank).Int("local_rank", f.LocalRank).Int("pid", f.PID).Int64("step", f.Step).Str("phase", string(f.Phase))
	}
	if r.current != nil {
		event.Int("world_size", r.current.record.World).Int("generation", r.current.record.Number)
	}
	event.Msg(f.Error())
	if here := known.Node == r.self.ID; !here || !r.shows(f.Rank) {
		var lines []byte
		for _, line := range f.LastLines {
			lines = fmt.Appendf(lines, "[rank %d] %s\n", f.Rank, line)
		}
		r.stderr.write(lines)
	}
	if f.LogDir == "" {
		return
	}
	if err := writeErrorFile(f); err != nil {
		r.Logger.Warn().Err(err).Msg("the failure is not filed")
	}
}

// failureOf unpacks what another node's agent, or this one's, has said of a failure.
func failureOf(known agree.Failure) *Failure {
	f := &Failure{Rank: known.Rank, ExitCode: known.ExitCode, Message: known.Message, Permanent: known.Permanent}
	if len(known.Detail) > 0 {
		if err := json.Unmarshal(known.Detail, f); err != nil {
			f.Message = known.Message
		}
	}
	return f
}

// log passes on what the machine says.
func (r *run) log(l agree.Log) {
	event := r.Logger.Info()
	switch l.Level {
	case "debug":
		event = r.Logger.Debug()
	case "warn":
		event = r.Logger.Warn()
	case "error":
		event = r.Logger.Error()
	}
	event.Fields(l.Attrs).Msg(l.Text)
}
