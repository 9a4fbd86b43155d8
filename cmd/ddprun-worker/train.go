package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/internal/train"
	"github.com/ddprun/ddprun/launch/pipe"
)

// errEnded marks the reasons for which the context of a run ends.
var errEnded = errors.New("ended early")

// errStopped ends a rank that was asked to stop and has saved: exit code 75.
var errStopped = errors.New("stopped on request; the same command goes on")

func newTrainCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "train",
		Short:  "One rank of a run; ddprun starts it",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			line, err := pipe.FromEnvironment(version())
			if err != nil {
				return err
			}
			defer line.Close()
			return runRank(cmd.Context(), line, cmd.ErrOrStderr())
		},
	}
}

// runRank does what the agent says at the other end of the line, and tells it how that ended.
func runRank(ctx context.Context, line *pipe.Worker, stderr io.Writer) error {
	start, err := line.Start(ctx)
	if err != nil {
		return err
	}
	r := &rankProcess{line: line, start: start, phase: pipe.PhaseSetup}
	line.Observe(r.observe)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go endEarly(ctx, line, cancel)
	if start.Debug {
		waiting, release := train.UntilAsked(ctx, line.Stop())
		awaitDebugger(waiting, &r.activity, start.Rank, stderr)
		release()
	} else { // a debugger stops it for longer than a lease
		go endWithLease(ctx, line, stderr)
	}
	result, err := r.train(ctx, stderr)
	switch err = asConsequence(ctx, err); {
	case err != nil:
		report := pipe.ErrorReport{Message: err.Error(), Phase: r.phase, Step: r.step,
			Permanent: errors.Is(err, train.ErrPermanent) && !pipe.Passing(err), Secondary: errors.Is(err, train.ErrPeer) || errors.Is(err, errEnded)}
		return errors.Join(err, line.Error(report))
	case result.Stopped:
		return errors.Join(line.Done(pipe.Done{Step: result.Step, Stopped: true}), errStopped)
	}
	return line.Done(pipe.Done{Step: result.Step})
}

// asConsequence returns an error that the end of ctx has brought about without its marks: it was no wrong input and no full disk that has ended the rank, whatever could
// not be finished for it. Any other error is returned as it is.
func asConsequence(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case err == nil || !errors.Is(cause, errEnded):
		return err
	case errors.Is(err, errEnded):
		return cause
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%w (%v)", cause, err)
	}
	return err
}

// endEarly cancels the run when there is nobody to run for, or the agent wants an end without a checkpoint.
func endEarly(ctx context.Context, line *pipe.Worker, cancel context.CancelCauseFunc) {
	stop := line.Stop()
	for {
		select {
		case <-line.Lost():
			cancel(fmt.Errorf("%w: the agent is gone", errEnded))
		case <-stop:
			if s, _ := line.Stopped(); s.How == pipe.StopNow {
				cancel(fmt.Errorf("%w: told to stop at once: %s", errEnded, s.Reason))
			}
			stop = nil // the loop sees the request for a checkpoint itself
		case <-ctx.Done():
			return
		}
	}
}

// rankProcess is one rank's place in the run and how far it has come.
type rankProcess struct {
	line  *pipe.Worker
	start pipe.Start
	phase pipe.Phase
	step  int64
	saved int64
	said  bool // the agent was told

	activity train.Activity
}

func (r *rankProcess) train(ctx context.Context, stderr io.Writer) (train.Result, error) {
	c, err := config.Decode(r.start.Config)
	if err != nil {
		return train.Result{}, inputError{err}
	}
	if r.start.Debugging {
		c.DDPTimeoutSeconds = max(c.DDPTimeoutSeconds, debugTimeoutSeconds)
	}
	log := newLogger(stderr, c, r.start.Rank)
	t, err := openText(c)
	if err != nil {
		return train.Result{}, err
	}
	t.activity = &r.activity
	r.beat(train.Phase(pipe.PhasePrepare), 0, 0)
	opening, release := train.UntilAsked(ctx, r.line.Stop())
	defer release()
	data, err := t.openCorpora(opening, c, shardsDir(c), stderr, log)
	if err != nil && errors.Is(context.Cause(opening), train.ErrAskedToStop) {
		err = nil // it goes on without samples, since the ranks agree on stopping
	}
	defer t.tok.Close()
	if !t.encodesAgain {
		t.tok.Close() // training needs its memory, not its words
	}
	defer data.close()
	if err != nil {
		return train.Result{}, err
	}
	var nodes []train.Node
	for _, n := range r.start.Nodes {
		nodes = append(nodes, train.Node{ID: n.ID, Name: n.Name, Address: n.Address, FirstRank: n.FirstRank, Ranks: n.Ranks})
	}
	return train.Run(ctx, &train.Job{
		Config: c, Rank: r.start.Rank, World: r.start.WorldSize, LocalRank: r.start.LocalRank, LocalWorld: r.start.LocalWorldSize, MinWorld: r.start.MinWorld, MaxWorld: r.start.MaxWorld, Threads: r.start.Threads,
		Nodes: nodes, NodeCount: r.start.NodeCount, Generation: uint64(r.start.Generation), RunID: r.start.RunID, MayWrite: r.mayWrite,
		Store: r.line.Store(), Host: r.start.Host, Train: data.train, PlansDir: plansDir(shardsDir(c)), Eval: data.eval, Objectives: t.objectives,
		Log: log, Stop: r.line.Stop(), Beat: r.beat, Activity: &r.activity,
		Metrics: func(m map[string]float64) { _ = r.line.Metrics(m) },
	})
}

// beat tells the agent where this rank is. What is no news to it is counted alone: the line's own beats tell that. A line that is gone is
// noticed elsewhere.
func (r *rankProcess) beat(phase train.Phase, step, saved int64) {
	r.activity.Tick()
	if r.said && r.phase == pipe.Phase(phase) && r.step == step && r.saved == saved {
		return
	}
	r.said, r.phase, r.step, r.saved = true, pipe.Phase(phase), step, saved
	_ = r.line.Progress(pipe.Progress{Phase: r.phase, Step: step, Checkpoint: saved})
}

// observe is what the line's beats tell of the work.
func (r *rankProcess) observe() pipe.Activity {
	doing, waiting, done := r.activity.Now()
	return pipe.Activity{Doing: doing, Waiting: waiting, Done: done}
}

// mayWrite is an error once the agent's lease has passed.
func (r *rankProcess) mayWrite() error {
	if left, limited := r.line.Lease(); limited && left <= 0 {
		return errLease
	}
	return nil
}
