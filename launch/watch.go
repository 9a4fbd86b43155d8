package launch

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ddprun/ddprun/launch/pipe"
)

const (
	lookEvery    = 500 * time.Millisecond // how often workers are looked at
	stoppedAfter = 3 * time.Second        // a worker that a signal has stopped for as long has failed
)

// Limits says for how long a worker may seem to do nothing. 0: for ever. None applies while a debugger is attached to it, or to one of DebugRanks.
type Limits struct {
	Silence time.Duration // without a beat or another message, once it has said its first word; one that a signal has stopped: 3 s, unless 0

	// Without progress: a finished step, micro-batch or file. A worker that waits for other ranks is not meant: theirs is the fault, and
	// if nobody's is found, the collective that it waits in has a time-out of its own (ddp_timeout).
	Setup      time.Duration // from the start of the process to the first step
	Step       time.Duration
	Eval       time.Duration
	Checkpoint time.Duration
}

// DefaultLimits are for callers: a Config without Limits has none. Sound runs on saturated cores stay far below them.
var DefaultLimits = Limits{
	Silence: 30 * time.Second, Setup: 30 * time.Minute, Step: 10 * time.Minute, Eval: 10 * time.Minute, Checkpoint: 30 * time.Minute,
}

// of returns the limit for progress in a phase, and the flag that sets it.
func (l Limits) of(phase pipe.Phase) (time.Duration, string) {
	switch phase {
	case pipe.PhaseTrain:
		return l.Step, "--step-timeout"
	case pipe.PhaseEvaluate:
		return l.Eval, "--eval-timeout"
	case pipe.PhaseCheckpoint:
		return l.Checkpoint, "--checkpoint-timeout"
	}
	return l.Setup, "--setup-timeout"
}

// patience is what the watch keeps of one worker. Its times are added up from look to look, each at most twice the interval between looks,
// so a time in which the agent itself did not run counts against nobody.
type patience struct {
	beat, moved                time.Time // Report's when it was looked at last
	silent, unmoved, suspended time.Duration
	tracer                     int // the debugger that was attached when something was wrong; 0: none
}

// look takes in what is known of a worker after passed, and returns what is wrong with it, if anything is.
func (p *patience) look(passed time.Duration, r pipe.Report, state byte, limits Limits) string {
	passed = min(passed, 2*lookEvery)
	if state == 'T' {
		p.suspended += passed
	} else {
		p.silent, p.unmoved, p.suspended = p.silent+passed, p.unmoved+passed, 0
	}
	if !r.Beat.Equal(p.beat) {
		p.beat, p.silent, p.suspended = r.Beat, 0, 0 // one that speaks was continued in between, if it was stopped
	} else if r.Hello == nil {
		p.silent = 0 // its program is loading: a part of the set-up
	}
	if !r.Moved.Equal(p.moved) || r.Latest.Waiting && p.silent == 0 {
		p.moved, p.unmoved = r.Moved, 0
	}
	limit, flag := limits.of(r.Progress.Phase)
	switch {
	case limits.Silence > 0 && p.suspended > stoppedAfter:
		return fmt.Sprintf("it was stopped by a signal (SIGSTOP, SIGTSTP) and not continued within %v", stoppedAfter)
	case limits.Silence > 0 && p.silent > limits.Silence:
		return fmt.Sprintf("no sign of life for %v (--silence-timeout)", limits.Silence)
	case limit > 0 && p.unmoved > limit:
		return fmt.Sprintf("no progress for %v (%s)%s", limit, flag, doing(r))
	}
	return ""
}

// doing says what a worker is doing, as far as it tells.
func doing(r pipe.Report) string {
	if r.Latest.Doing == "" {
		return ""
	}
	return ": " + r.Latest.Doing
}

// fault is what the watch has found wrong with a worker.
type fault struct {
	message   string
	at        time.Time
	lastLines []string // of its output before its stacks were asked for
}

// beginWatch starts the watch over the workers, which unwatch ends.
func (a *attempt) beginWatch() *sync.WaitGroup {
	ctx, cancel := context.WithCancel(context.Background())
	a.unwatch = cancel
	var watching sync.WaitGroup
	watching.Go(func() { a.watchWorkers(ctx) })
	return &watching
}

// watchWorkers looks at the workers until ctx ends. One that is at fault it sends on accused, once stacks are filed, and looks no further.
func (a *attempt) watchWorkers(ctx context.Context) {
	kept := make([]patience, len(a.workers))
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for last := time.Now(); ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		for i, w := range a.workers {
			if w.start.Debug {
				continue
			}
			s, ok := readStat(w.process.Pid)
			if !ok || s.state == 'Z' { // it has ended
				continue
			}
			wrong := kept[i].look(now.Sub(last), w.agent.Report(), s.state, a.run.Limits)
			if wrong == "" {
				continue
			}
			if tracer := tracerOf(w.process.Pid); tracer != 0 {
				kept[i].traced(a, w, tracer)
				continue
			}
			w.fault = &fault{wrong + uninterruptible(w.process.Pid), now, w.tail.last()}
			if s.state != 'T' { // a stopped worker does not answer, and what the others do is wait for it
				a.fileStacks(ctx, w)
			}
			a.accused <- w
			return
		}
		last = now
	}
}

// traced begins the counting anew because a debugger is attached.
func (p *patience) traced(a *attempt, w *worker, tracer int) {
	if p.tracer != tracer {
		a.run.Logger.Warn().Int("rank", w.start.Rank).Int("pid", w.process.Pid).Int("tracer", tracer).
			Msg("a debugger is attached to the worker: its time-outs wait")
	}
	*p = patience{tracer: tracer}
}
