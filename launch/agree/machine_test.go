package agree

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// agents counts, so that each has an ID of its own.
var agents atomic.Int64

// alone is a driver of one agent on a file system that answers at once.
type alone struct {
	t       *testing.T
	m       *Machine
	now     time.Duration
	highest *Record
	outcome *Outcome
	newest  int64
	done    []string // what it was told to do, in short
	exit    *Outcome
}

func newAlone(t *testing.T, c Config) *alone {
	c.Self = Node{ID: fmt.Sprintf("0-%08x", agents.Add(1)), NProc: 2, Host: "a"}
	c.MinNodes, c.MaxNodes, c.RunID, c.Exclusive = 1, 1, "run", true
	c.JoinTimeout, c.RejoinTimeout = time.Minute, time.Minute
	return &alone{t: t, m: New(c, 0)}
}

// again starts the agent anew in the same directory.
func (a *alone) again(c Config) *alone {
	b := newAlone(a.t, c)
	b.highest, b.outcome, b.newest = a.highest, a.outcome, a.newest
	return b
}

func (a *alone) give(in Input) {
	for queue := []Input{in}; len(queue) > 0; queue = queue[1:] {
		for _, o := range a.m.Handle(a.now, queue[0]) {
			switch o := o.(type) {
			case ReadRecords:
				next := 0
				if a.highest != nil {
					next = a.highest.Number + 1
				}
				queue = append(queue, Records{Asked: a.now, Highest: a.highest, Next: next, Newest: a.newest, Outcome: a.outcome})
			case Claim:
				a.highest = &o.Record
				queue = append(queue, Claimed{Number: o.Record.Number, Won: true})
			case StartWorkers:
				a.done = append(a.done, fmt.Sprintf("start %d", o.Record.Number))
			case StopWorkers:
				a.done = append(a.done, fmt.Sprintf("stop %d %s", o.Number, o.How))
			case WriteOutcome:
				a.outcome = &o.Outcome
				queue = append(queue, OutcomeWritten{})
			case Exit:
				a.exit = &o.Outcome
			case Log, FirstFailure:
			default:
				a.t.Errorf("output %T", o)
			}
		}
	}
}

func (a *alone) expect(done ...string) {
	a.t.Helper()
	if fmt.Sprint(a.done) != fmt.Sprint(done) {
		a.t.Fatalf("it did %v, not %v", a.done, done)
	}
}

func (a *alone) exits(code int) {
	a.t.Helper()
	if a.exit == nil || a.exit.Code != code {
		a.t.Fatalf("it exits with %+v, not with code %d", a.exit, code)
	}
}

func (a *alone) fail(n int, f Failure) {
	a.give(WorkersFailed{Number: n, Failure: f})
	a.give(WorkersDown{Number: n, End: Failed, Checkpoint: a.newest})
}

// TestOneNodeAlone: no time passes in any of these.
func TestOneNodeAlone(t *testing.T) {
	crash := Failure{ExitCode: 1, Message: "crash"}
	t.Run("finishes", func(t *testing.T) {
		a := newAlone(t, Config{SkipFinished: true})
		a.give(Tick{})
		a.expect("start 0")
		a.give(WorkersDown{Number: 0, End: Finished, Checkpoint: 10})
		a.exits(codeDone)
		if a.outcome == nil || a.outcome.Code != codeDone || a.outcome.Step != 10 {
			t.Errorf("outcome %+v", a.outcome)
		}
		b := a.again(Config{SkipFinished: true})
		b.give(Tick{})
		b.expect()
		b.exits(codeDone)
		b = a.again(Config{SkipFinished: true, Digest: "another"})
		b.give(Tick{})
		b.expect("start 1")
	})
	t.Run("starts again", func(t *testing.T) {
		a := newAlone(t, Config{MaxRestarts: 1})
		a.give(Tick{})
		a.fail(0, crash)
		a.expect("start 0", "start 1")
		a.fail(1, crash)
		a.expect("start 0", "start 1")
		a.exits(codeFailed)
		if a.exit.Failure == nil || a.exit.Failure.Message != "crash" {
			t.Errorf("outcome %+v", a.exit)
		}
	})
	t.Run("leaves", func(t *testing.T) {
		a := newAlone(t, Config{})
		a.give(Tick{})
		a.give(Leave{Reason: "TERM", Code: 143})
		a.expect("start 0", "stop 0 checkpoint")
		a.give(WorkersDown{Number: 0, End: Stopped, Checkpoint: 5})
		a.exits(codeComeAgain)
	})
	t.Run("leaves, and the workers fail", func(t *testing.T) {
		a := newAlone(t, Config{MaxRestarts: 3})
		a.give(Tick{})
		a.give(Leave{Reason: "TERM", Code: 143})
		a.fail(0, crash)
		a.exits(143)
	})
	t.Run("is killed", func(t *testing.T) {
		a := newAlone(t, Config{})
		a.give(Tick{})
		a.give(Kill{Code: 130})
		a.expect("start 0", "stop 0 now")
		a.give(WorkersDown{Number: 0, End: Killed})
		a.exits(130)
	})
}

func TestBudget(t *testing.T) {
	type failure struct {
		failure    Failure
		checkpoint int64
		code       int // -1: it starts again
	}
	crash := Failure{ExitCode: 1}
	for name, c := range map[string]struct {
		maxRestarts int
		found       int64 // the checkpoint at the start
		failures    []failure
	}{
		"restarts are off":       {0, 0, []failure{{crash, 0, codeFailed}}},
		"used up":                {1, 0, []failure{{crash, 0, -1}, {crash, 0, codeFailed}}},
		"three without progress": {9, 0, []failure{{crash, 0, -1}, {crash, 0, -1}, {crash, 0, codeNoProgress}}},
		"used up, with progress": {2, 0, []failure{{crash, 10, -1}, {crash, 20, -1}, {crash, 30, codeFailed}}},
		"progress counts anew": {9, 0, []failure{
			{crash, 0, -1}, {crash, 0, -1}, {crash, 10, -1}, {crash, 10, -1}, {crash, 10, codeNoProgress}}},
		"the checkpoint resumed from is none": {9, 50, []failure{{crash, 50, -1}, {crash, 50, -1}, {crash, 50, codeNoProgress}}},
		"the same checkpoint again is none":   {9, 0, []failure{{crash, 50, -1}, {crash, 50, -1}, {crash, 50, codeNoProgress}}},
		"configuration":                       {9, 0, []failure{{Failure{ExitCode: codeConfig}, 10, codeConfig}}},
		"permanent":                           {9, 0, []failure{{Failure{ExitCode: 1, Permanent: true}, 10, codeFailed}}},
	} {
		for _, restarted := range []bool{false, true} { // the agent is killed and started again after each failure: the count is kept
			config := Config{MaxRestarts: c.maxRestarts}
			a := newAlone(t, config)
			a.newest = c.found
			a.give(Tick{})
			for i, f := range c.failures {
				a.newest = f.checkpoint
				a.fail(a.highest.Number, f.failure)
				if (a.exit == nil) != (f.code < 0) || a.exit != nil && a.exit.Code != f.code {
					t.Errorf("%s, restarted %v: failure %d leads to %+v", name, restarted, i+1, a.exit)
				}
				if restarted && a.exit == nil {
					a = a.again(config)
					a.give(Tick{})
				}
			}
		}
	}
}
