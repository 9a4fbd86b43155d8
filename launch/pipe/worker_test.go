package pipe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// connect joins an agent's and a worker's end.
func connect(t *testing.T, start Start, store Backend) (*Agent, *Worker) {
	t.Helper()
	agentConn, workerConn := socketPair(t)
	agent := NewAgent(agentConn, start, store)
	t.Cleanup(agent.Close)
	worker, err := NewWorker(workerConn, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(worker.Close)
	return agent, worker
}

func TestStartReachesTheWorker(t *testing.T) {
	config := json.RawMessage(`{"model":"m"}`)
	agent, worker := connect(t, Start{Config: config, Generation: 3, Rank: 1, WorldSize: 2, Threads: 4}, NewMemStore())
	start, err := worker.Start(context.Background())
	if err != nil || string(start.Config) != string(config) || start.Generation != 3 || start.Rank != 1 || start.Threads != 4 {
		t.Fatalf("%+v %v", start, err)
	}
	if h := agent.Report().Hello; h == nil || h.Version != Version || h.Program != "test" {
		t.Fatalf("hello: %+v", h)
	}
}

func TestReportKeepsWhatTheWorkerSaid(t *testing.T) {
	agent, worker := connect(t, Start{WorldSize: 1}, NewMemStore())
	worker.Progress(Progress{Phase: PhaseTrain, Step: 6})
	worker.Progress(Progress{Phase: PhaseEvaluate, Step: 7, Checkpoint: 5})
	worker.Error(ErrorReport{Message: "first"})
	worker.Error(ErrorReport{Message: "second"})
	worker.Done(Done{Step: 7, Stopped: true})
	worker.Close()
	<-agent.Ended()
	r := agent.Report()
	if r.Progress.Step != 7 || r.Progress.Checkpoint != 5 || r.Beat.IsZero() || r.Fault != nil {
		t.Errorf("%+v", r)
	}
	if r.Error == nil || r.Error.Message != "first" || r.Error.Phase != PhaseEvaluate || r.Error.Step != 7 || r.Error.Time.IsZero() {
		t.Errorf("error: %+v", r.Error)
	}
	if r.Done == nil || !r.Done.Stopped {
		t.Errorf("done: %+v", r.Done)
	}
}

func TestLongErrorIsCutNotLost(t *testing.T) {
	agent, worker := connect(t, Start{WorldSize: 1}, NewMemStore())
	if err := worker.Error(ErrorReport{Message: strings.Repeat("x", 2*MaxMessageBytes), Stack: strings.Repeat("\n", 2*MaxMessageBytes)}); err != nil {
		t.Fatal(err)
	}
	worker.Close()
	<-agent.Ended()
	if e := agent.Report().Error; e == nil || !strings.HasSuffix(e.Message, "(cut)") {
		t.Fatal("the report of a long error is lost")
	}
}

func TestStopReachesTheWorker(t *testing.T) {
	agent, worker := connect(t, Start{WorldSize: 1}, NewMemStore())
	if _, asked := worker.Stopped(); asked {
		t.Fatal("stopped before anyone asked")
	}
	agent.Stop(Stop{Reason: "SIGTERM", How: StopCheckpoint})
	<-worker.Stop()
	if stop, _ := worker.Stopped(); stop.How != StopCheckpoint || stop.Reason != "SIGTERM" {
		t.Fatalf("%+v", stop)
	}
	agent.Stop(Stop{Reason: "SIGINT", How: StopNow})
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if stop, _ := worker.Stopped(); stop.How == StopNow {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the second request did not replace the first")
		}
	}
}

func TestWorkerSeesItsAgentGo(t *testing.T) {
	agent, worker := connect(t, Start{WorldSize: 1}, NewMemStore())
	waiting := make(chan error)
	go func() { _, err := worker.Store().Get("never", time.Minute); waiting <- err }()
	agent.Close()
	<-worker.Lost()
	if err := <-waiting; !errors.Is(err, ErrLost) {
		t.Errorf("a request under way: %v", err)
	}
	if err := worker.Store().Set("k", nil); !errors.Is(err, ErrLost) {
		t.Errorf("a later request: %v", err)
	}
}

func TestWorkersEndEndsItsRequests(t *testing.T) {
	agent, worker := connect(t, Start{WorldSize: 1}, NewMemStore())
	go worker.Store().Get("never", time.Hour)
	time.Sleep(10 * time.Millisecond)
	worker.Close()
	select {
	case <-agent.Ended():
	case <-time.After(5 * time.Second):
		t.Fatal("a request outlives its worker")
	}
}

func TestOtherProtocolIsRefusedWithAReason(t *testing.T) {
	agentConn, workerConn := socketPair(t)
	agent := NewAgent(agentConn, Start{WorldSize: 1}, NewMemStore())
	l := newLine(workerConn, 0)
	if err := l.send(message{Hello: &Hello{Version: Version + 1, Program: "v9"}}); err != nil {
		t.Fatal(err)
	}
	m, err := l.receive()
	if err != nil || m.Stop == nil || !strings.Contains(m.Stop.Reason, fmt.Sprint("protocol ", Version+1)) {
		t.Fatalf("%+v %v", m, err)
	}
	<-agent.Ended()
	if agent.Report().Fault == nil {
		t.Fatal("the agent's report names no fault")
	}
}

func TestLeaseReachesTheWorker(t *testing.T) {
	agent, worker := connect(t, Start{WorldSize: 1}, NewMemStore())
	if _, err := worker.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, limited := worker.Lease(); limited {
		t.Fatal("limited before anyone set a limit")
	}
	wait := func(ok func(left time.Duration) bool) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			if left, limited := worker.Lease(); limited && ok(left) {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("%v is left, limited %v", left, limited)
			}
		}
	}
	agent.Lease(Boottime() + time.Hour)
	wait(func(left time.Duration) bool { return left > 59*time.Minute && left <= time.Hour })
	agent.Lease(Boottime() - time.Second)
	wait(func(left time.Duration) bool { return left < 0 })
}

// The worker of an agent that is stopped right after it has started the worker is limited too.
func TestLeaseComesWithTheStart(t *testing.T) {
	agentConn, workerConn := socketPair(t)
	agent := NewAgent(agentConn, Start{WorldSize: 1}, NewMemStore())
	t.Cleanup(agent.Close)
	agent.Lease(Boottime() + time.Hour)
	worker, err := NewWorker(workerConn, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(worker.Close)
	if _, err := worker.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	if left, limited := worker.Lease(); !limited || left > time.Hour || left < 59*time.Minute {
		t.Fatalf("%v is left, limited %v", left, limited)
	}
}

// A worker that does not read holds up nobody who renews its lease.
func TestLeaseDoesNotBlock(t *testing.T) {
	agentConn, _ := socketPair(t)
	agent := NewAgent(agentConn, Start{WorldSize: 1}, NewMemStore())
	t.Cleanup(agent.Close)
	for i := range 100_000 {
		agent.Lease(time.Duration(i + 1))
	}
}
