package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ddprun/ddprun/launch/pipe"
)

// oneRank runs a rank in this process, with an agent at the other end of its line, and returns what the rank returned and told.
func oneRank(t *testing.T, configuration string, steer func(agent *pipe.Agent)) (pipe.Report, error) {
	t.Helper()
	goroutines := runtime.NumGoroutine()
	agentEnd, workerEnd := net.Pipe()
	start := pipe.Start{Config: json.RawMessage(configuration), Generation: 1, WorldSize: 1, LocalWorldSize: 1, NodeCount: 1, Threads: 1, Host: "127.0.0.1"}
	agent := pipe.NewAgent(agentEnd, start, pipe.NewMemStore())
	line, err := pipe.NewWorker(workerEnd, "test")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- runRank(context.Background(), line, io.Discard) }()
	if steer != nil {
		steer(agent)
	}
	select {
	case err = <-ended:
	case <-time.After(60 * time.Second):
		stacks := make([]byte, 1<<20)
		t.Fatalf("the rank hangs:\n%s", stacks[:runtime.Stack(stacks, true)])
	}
	line.Close()
	<-agent.Ended()
	agent.Close()
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
		}
	}
	return agent.Report(), err
}

// awaitStep waits until the rank has done a step.
func awaitStep(t *testing.T, agent *pipe.Agent) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); agent.Report().Progress.Step == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no step was done")
		}
	}
}

func TestRankTrainsToTheEnd(t *testing.T) {
	w := newWorkspace(t)
	report, err := oneRank(t, w.resolved("max_steps: 3", "eval_data: "+w.path("heldout.txt")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Done == nil || report.Done.Step != 3 || report.Done.Stopped || report.Error != nil {
		t.Errorf("the agent was told %+v", report)
	}
	for _, file := range []string{"runs/out/model.safetensors", "runs/out/checkpoint-3/model.safetensors", "runs/out/metrics.jsonl"} {
		if !strings.Contains(w.tree(), w.path(file)) {
			t.Errorf("no %s", file)
		}
	}
}

func TestRankStopsOnRequest(t *testing.T) {
	w := newWorkspace(t)
	report, err := oneRank(t, w.resolved("max_steps: 1000000"), func(agent *pipe.Agent) {
		awaitStep(t, agent)
		if err := agent.Stop(pipe.Stop{Reason: "TERM", How: pipe.StopCheckpoint}); err != nil {
			t.Error(err)
		}
	})
	if exitCode(err) != exitComeAgain || !errors.Is(err, errStopped) {
		t.Errorf("got %v", err)
	}
	if report.Done == nil || !report.Done.Stopped || report.Done.Step == 0 || !strings.Contains(w.tree(), w.path("runs/out/checkpoint-")) {
		t.Errorf("the agent was told %+v; there is\n%s", report, w.tree())
	}
}

func TestRankStopsAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		steer func(agent *pipe.Agent)
		want  string
	}{
		"told":          {func(a *pipe.Agent) { _ = a.Stop(pipe.Stop{Reason: "rank 1 failed", How: pipe.StopNow}) }, "rank 1 failed"},
		"without agent": {func(a *pipe.Agent) { a.Close() }, "the agent is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorkspace(t)
			report, err := oneRank(t, w.resolved("max_steps: 1000000"), func(agent *pipe.Agent) {
				awaitStep(t, agent)
				c.steer(agent)
			})
			if err == nil || !strings.Contains(err.Error(), c.want) || exitCode(err) != 1 || report.Done != nil {
				t.Errorf("got %v; the agent was told %+v", err, report)
			}
		})
	}
}

// Whatever a rank is doing when it is told to stop at once, what it could not finish is no failure of its own: not a wrong input, and not a full disk.
func TestRankIsNotAtFaultWhenStopped(t *testing.T) {
	configuration := func(w *workspace) string {
		return w.resolved("max_steps: 1000000", "save_steps: 1", "eval_steps: 3", "eval_on_start: true", "eval_data: "+w.path("heldout.txt"))
	}
	began := time.Now()
	oneRank(t, configuration(newWorkspace(t)), func(a *pipe.Agent) { awaitStep(t, a); a.Close() })
	took := 2 * time.Since(began)
	phases := map[pipe.Phase]int{}
	const moments = 40
	for i := range moments {
		report, err := oneRank(t, configuration(newWorkspace(t)), func(agent *pipe.Agent) {
			time.Sleep(took * time.Duration(i) / moments)
			_ = agent.Stop(pipe.Stop{Reason: "a node is lost", How: pipe.StopNow})
		})
		if e := report.Error; e != nil {
			phases[e.Phase]++
		}
		switch e := report.Error; {
		case report.Done != nil && errors.Is(err, errStopped): // it heard of the request first, and had nothing to write
		case exitCode(err) != 1 || e == nil || e.Permanent || !e.Secondary || !strings.Contains(e.Message, "a node is lost"):
			t.Errorf("got %v; the agent was told %+v", err, e)
		}
	}
	t.Log(phases)
}

func TestRankReportsItsError(t *testing.T) {
	w := newWorkspace(t)
	report, err := oneRank(t, w.resolved("data: "+w.path("nowhere.txt")), nil)
	if exitCode(err) != exitInput || report.Error == nil || !strings.Contains(report.Error.Message, "nowhere.txt") || report.Error.Phase != pipe.PhasePrepare {
		t.Errorf("got %v; the agent was told %+v", err, report.Error)
	}
	report, err = oneRank(t, `{"model": "x"}`, nil)
	if exitCode(err) != exitInput || report.Error == nil || !strings.Contains(report.Error.Message, "configuration as JSON") {
		t.Errorf("got %v; the agent was told %+v", err, report.Error)
	}
}

// A rank whose lease ends is gone, though it has been told nothing, and says nothing to an agent that may not read.
func TestRankEndsWithItsLease(t *testing.T) {
	w := newWorkspace(t)
	codes := make(chan int, 1)
	ended := exit
	exit = func(code int) { codes <- code }
	defer func() { exit = ended }()
	_, err := oneRank(t, w.resolved("max_steps: 1000000"), func(agent *pipe.Agent) {
		agent.Lease(pipe.Boottime() + time.Hour)
		awaitStep(t, agent)
		if len(codes) > 0 {
			t.Error("it ended while its lease went on")
		}
		agent.Lease(pipe.Boottime() + 10*time.Millisecond)
		select {
		case code := <-codes:
			if code != 1 {
				t.Errorf("exit code %d", code)
			}
		case <-time.After(30 * time.Second):
			t.Error("it goes on without a lease")
		}
		agent.Close() // ends what is left of it in this process
	})
	if err == nil {
		t.Error("it ended well")
	}
}
