package pipe

import (
	"context"
	"maps"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// awaitReport waits until the agent has been told what ok wants.
func awaitReport(t *testing.T, agent *Agent, ok func(Report) bool) Report {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		r := agent.Report()
		if ok(r) {
			return r
		}
		if time.Now().After(deadline) {
			t.Fatalf("not told: %+v", r)
		}
	}
}

func TestBeatsTellWhatTheWorkDoes(t *testing.T) {
	agent, worker := connect(t, Start{WorldSize: 1}, NewMemStore())
	var done atomic.Uint64
	done.Store(3)
	worker.Observe(func() Activity { return Activity{Doing: "all-reduce", Waiting: true, Done: done.Load()} })
	worker.Progress(Progress{Phase: PhaseTrain, Step: 6, Checkpoint: 5})
	first := awaitReport(t, agent, func(r Report) bool { return r.Latest.Phase != "" })
	if b := first.Latest; b.Phase != PhaseTrain || b.Step != 6 || b.Checkpoint != 5 || b.Doing != "all-reduce" || !b.Waiting || b.Done != 3 || b.LastsMS < 0 {
		t.Errorf("%+v", b)
	}
	second := awaitReport(t, agent, func(r Report) bool { return r.Beat.After(first.Beat) })
	if !second.Moved.Equal(first.Moved) || second.Latest.LastsMS <= first.Latest.LastsMS {
		t.Errorf("a beat that counts no more: %+v after %+v", second, first)
	}
	done.Add(1)
	awaitReport(t, agent, func(r Report) bool { return r.Moved.After(first.Moved) })
}

func TestStacks(t *testing.T) {
	agent, worker := connect(t, Start{WorldSize: 1}, NewMemStore())
	answers := make(chan string)
	for range 3 {
		go func() {
			text, err := agent.Stacks(context.Background())
			if err != nil {
				text = err.Error()
			}
			answers <- text
		}()
	}
	for range 3 {
		if text := <-answers; !strings.Contains(text, "pipe.(*Worker).receive") {
			t.Errorf("stacks without the goroutine that receives:\n%s", text)
		}
	}
	worker.Close()
	if text, err := agent.Stacks(context.Background()); err == nil {
		t.Errorf("a worker that has ended answers %q", text)
	}
}

func TestStacksOfAWorkerThatDoesNotRead(t *testing.T) {
	agentConn, workerConn := socketPair(t)
	agent := NewAgent(agentConn, Start{WorldSize: 1}, NewMemStore())
	defer agent.Close()
	defer workerConn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if text, err := agent.Stacks(ctx); err == nil {
		t.Errorf("nobody answers %q", text)
	}
}

func TestMetricsAreKeptByName(t *testing.T) {
	agent, worker := connect(t, Start{WorldSize: 1}, NewMemStore())
	worker.Metrics(Metrics{"step": 1, "loss": 3.5, "eval_loss": math.NaN(), "grad_norm": math.Inf(1)})
	first := awaitReport(t, agent, func(r Report) bool { return len(r.Metrics) > 0 }).Metrics
	worker.Metrics(Metrics{"step": 2, "eval_loss": 4})
	second := awaitReport(t, agent, func(r Report) bool { return r.Metrics["step"] == 2 }).Metrics
	if !maps.Equal(first, Metrics{"step": 1, "loss": 3.5}) || !maps.Equal(second, Metrics{"step": 2, "loss": 3.5, "eval_loss": 4}) {
		t.Errorf("%v, then %v", first, second)
	}
}
