package pipe

import (
	"context"
	"fmt"
	"math"
	"net"
	"os"
	"sync"
	"time"
)

// Worker is a worker's end of the line to its agent. It is safe for concurrent use.
type Worker struct {
	line *line

	started chan struct{} // closed when start is set
	stop    chan struct{} // closed when stopped is set
	lost    chan struct{} // closed when the agent is gone

	helpers sync.WaitGroup // the goroutines beside receive's

	mu       sync.Mutex
	start    Start
	lease    int64 // nanoseconds of Boottime; 0: none
	stopped  Stop
	progress Progress
	moved    time.Time // of the newest Progress
	observe  func() Activity
	lastID   uint64
	replies  map[uint64]chan Reply // by request ID; a reply to an ID that is not here came too late
}

// NewWorker takes over conn and greets the agent at its other end. program is the program's own version. Most callers
// want FromEnvironment.
func NewWorker(conn net.Conn, program string) (*Worker, error) {
	w := &Worker{
		line:    newLine(conn, 0),
		started: make(chan struct{}),
		stop:    make(chan struct{}),
		lost:    make(chan struct{}),
		replies: map[uint64]chan Reply{},
		moved:   time.Now(),
	}
	if err := w.line.send(message{Hello: &Hello{PID: os.Getpid(), Version: Version, Program: program}}); err != nil {
		return nil, err
	}
	w.helpers.Go(w.beat)
	go w.receive()
	return w, nil
}

// Start waits for the agent's Start. An agent that refuses the worker says why before it ends the line; the error
// (ErrLost) carries its reason.
func (w *Worker) Start(ctx context.Context) (Start, error) {
	select {
	case <-w.started:
		return w.start, nil
	case <-w.lost:
		if stop, ok := w.Stopped(); ok {
			return Start{}, fmt.Errorf("%w: %s", ErrLost, stop.Reason)
		}
		return Start{}, ErrLost
	case <-ctx.Done():
		return Start{}, ctx.Err()
	}
}

// Stop is closed once the agent has asked the worker to stop; Stopped says how.
func (w *Worker) Stop() <-chan struct{} { return w.stop }

// Stopped returns the newest Stop, if there was one. A StopNow may follow a StopCheckpoint.
func (w *Worker) Stopped() (Stop, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopped, w.stopped.How != ""
}

// Lost is closed once the agent is gone. A worker that has lost its agent exits: nobody steers it any more.
func (w *Worker) Lost() <-chan struct{} { return w.lost }

// Lease returns how long the agent lets this worker run; limited is false where it has set no limit. Where nothing is left the worker must write nothing any more and
// exit at once: the agent is stopped or cut off, and another group of workers may be at work.
func (w *Worker) Lease() (left time.Duration, limited bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.lease) - Boottime(), w.lease != 0
}

// Progress reports where the worker is. It waits only while an agent that lives does not read.
func (w *Worker) Progress(p Progress) error {
	p.Time = time.Now()
	w.mu.Lock()
	w.progress, w.moved = p, time.Now()
	w.mu.Unlock()
	return w.line.send(message{Progress: &p})
}

// Metrics tells numbers of the training. Those that are not finite are left out.
func (w *Worker) Metrics(m Metrics) error {
	finite := Metrics{}
	for name, x := range m {
		if !math.IsNaN(x) && !math.IsInf(x, 0) {
			finite[name] = x
		}
	}
	return w.line.send(message{Metrics: finite})
}

// Error reports the worker's own account of its failure. An empty phase is filled in, with the step, from the newest
// Progress. When it returns, the agent will see the report even if the process ends at once.
func (w *Worker) Error(e ErrorReport) error {
	w.mu.Lock()
	if e.Phase == "" {
		e.Phase, e.Step = w.progress.Phase, w.progress.Step
	}
	w.mu.Unlock()
	if e.Phase == "" {
		e.Phase = PhaseSetup
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	const maxText = 256 << 10
	e.Message, e.Stack = truncate(e.Message, maxText), truncate(e.Stack, maxText)
	return w.line.send(message{Error: &e})
}

// Done reports that the work has ended well. The worker exits next, with 0 or 75.
func (w *Worker) Done(d Done) error {
	return w.line.send(message{Done: &d})
}

// Close ends the line. What was sent before still arrives.
func (w *Worker) Close() {
	w.line.conn.Close()
	<-w.lost
	w.helpers.Wait()
}

// receive takes the agent's messages until the line ends. Whatever ends it, the agent cannot steer this worker any more.
func (w *Worker) receive() {
	defer close(w.lost)
	defer w.line.conn.Close()
	for {
		m, err := w.line.receive()
		if err != nil {
			return
		}
		w.mu.Lock()
		switch {
		case m.Start != nil && w.start.WorldSize == 0:
			w.start = *m.Start
			w.lease = max(w.lease, w.start.Lease)
			close(w.started)
		case m.Lease != 0:
			w.lease = m.Lease
		case m.Stop != nil:
			first := w.stopped.How == ""
			w.stopped = *m.Stop
			if w.stopped.How == "" {
				w.stopped.How = StopNow
			}
			if first {
				close(w.stop)
			}
		case m.Trace != nil:
			w.helpers.Go(w.sendStacks)
		case m.Reply != nil:
			if waiting := w.replies[m.Reply.ID]; waiting != nil {
				waiting <- *m.Reply // has room for one
				delete(w.replies, m.Reply.ID)
			}
		}
		w.mu.Unlock()
	}
}

func truncate(text string, max int) string {
	if len(text) <= max {
		return text
	}
	return text[:max] + " ... (cut)"
}
