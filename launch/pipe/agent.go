package pipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// agentWriteTimeout bounds how long the agent waits for a worker that does not read (one that is stopped, once the
// socket's buffer is full). Then the line to it is given up.
const agentWriteTimeout = 10 * time.Second

// maxWaiting bounds the requests of one worker that wait for a key at the same time.
const maxWaiting = 1024

// maxMetrics bounds the metrics that are kept of one worker.
const maxMetrics = 1000

// Report is what a worker has said so far.
type Report struct {
	Hello    *Hello
	Progress Progress     // the newest; zero before the first
	Resumed  int64        // step of the checkpoint that the worker started from: Progress.Checkpoint of its set-up, 0 for none
	Beat     time.Time    // when the newest message arrived, with a monotonic reading; zero before the first
	Moved    time.Time    // when the newest sign of progress did: a Progress, or a Beat that counts more
	Latest   Beat         // the newest; zero before the first
	Metrics  Metrics      // of each name the newest; not to be changed
	Error    *ErrorReport // the first; later ones are echoes
	ErrorAt  time.Time    // when Error arrived
	Done     *Done
	Fault    error // why the line ended, if not by the worker's end: a malformed message, another protocol version
}

// Agent is the agent's end of the line to one worker. It serves the worker's requests by itself. It is safe for
// concurrent use.
type Agent struct {
	line    *line
	start   Start
	store   Backend
	waiting chan struct{} // one slot a request that waits
	failed  chan struct{}
	ended   chan struct{}
	lease   atomic.Int64  // the newest; 0: none
	renewed chan struct{} // has room for one: lease is to be sent

	mu      sync.Mutex
	report  Report
	tracing []chan string // those that wait for stacks
}

// NewAgent takes over conn and serves the worker at its other end, from its Hello on, until the worker's end closes or
// Close is called. The worker gets start in answer to its Hello.
func NewAgent(conn net.Conn, start Start, store Backend) *Agent {
	a := &Agent{
		line:    newLine(conn, agentWriteTimeout),
		start:   start,
		store:   store,
		waiting: make(chan struct{}, maxWaiting),
		failed:  make(chan struct{}),
		ended:   make(chan struct{}),
		renewed: make(chan struct{}, 1),
	}
	go a.serve()
	return a
}

// Stop asks the worker to stop. It does not wait for the worker to do so, but may wait some seconds for one that does
// not read.
func (a *Agent) Stop(stop Stop) error {
	return a.line.send(message{Stop: &stop})
}

// Stacks asks the worker for the stacks of its goroutines and waits for them until ctx ends. A worker that is stopped, or whose runtime is
// stuck, does not answer.
func (a *Agent) Stacks(ctx context.Context) (string, error) {
	answer := make(chan string, 1)
	a.mu.Lock()
	a.tracing = append(a.tracing, answer)
	a.mu.Unlock()
	sent := make(chan error, 1)
	go func() { sent <- a.line.send(message{Trace: &trace{}}) }() // may wait for one that does not read
	for {
		select {
		case text := <-answer:
			return text, nil
		case err := <-sent:
			if err != nil {
				return "", err
			}
			sent = nil
		case <-a.ended:
			return "", ErrLost
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// Lease lets the worker run until the clock of [Boottime] shows until, or until a later call. A worker to which none was ever given runs without a limit; one
// given before the worker's Hello comes with its Start. It does not block: of several that a worker has not read yet, the last one counts.
func (a *Agent) Lease(until time.Duration) {
	a.lease.Store(int64(until))
	select {
	case a.renewed <- struct{}{}:
	default:
	}
}

// sendLeases passes leases on to the worker.
func (a *Agent) sendLeases(ctx context.Context) {
	for {
		select {
		case <-a.renewed:
			a.line.send(message{Lease: a.lease.Load()}) // a worker that does not get it ends by itself
		case <-ctx.Done():
			return
		}
	}
}

// Report returns what the worker has said so far.
func (a *Agent) Report() Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.report
}

// Failed is closed once the worker has sent an ErrorReport. It may take long to exit after that, or never do so.
func (a *Agent) Failed() <-chan struct{} { return a.failed }

// Ended is closed once the worker's end is closed, everything it sent is in Report, and its requests have ended.
func (a *Agent) Ended() <-chan struct{} { return a.ended }

// Close ends the line and waits until its goroutines are gone. The worker sees its agent as lost.
func (a *Agent) Close() {
	a.line.conn.Close()
	<-a.ended
}

func (a *Agent) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	var requests sync.WaitGroup
	requests.Go(func() { a.sendLeases(ctx) })
	err := a.receive(ctx, &requests)
	cancel()
	a.line.conn.Close()
	requests.Wait()
	if !errors.Is(err, io.EOF) {
		a.mu.Lock()
		a.report.Fault = err
		a.mu.Unlock()
	}
	close(a.ended)
}

// receive takes the worker's messages to the last one: also where the worker can be told nothing any more, since what it
// said before it died is the account of its failure.
func (a *Agent) receive(ctx context.Context, requests *sync.WaitGroup) error {
	for {
		m, err := a.line.receive()
		if err != nil {
			return err
		}
		a.note(m)
		switch {
		case m.Hello != nil:
			if m.Hello.Version != Version {
				err := fmt.Errorf("pipe: the worker (%s) speaks protocol %d and the agent %d: install the two commands together",
					m.Hello.Program, m.Hello.Version, Version)
				a.Stop(Stop{Reason: err.Error(), How: StopNow})
				return err
			}
			start := a.start
			start.Lease = a.lease.Load()
			if err := a.line.send(message{Start: &start}); err != nil && !errors.Is(err, ErrLost) {
				return err
			}
		case m.Request != nil:
			if err := a.answer(ctx, *m.Request, requests); err != nil && !errors.Is(err, ErrLost) {
				return err
			}
		}
	}
}

// note keeps what m says.
func (a *Agent) note(m message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := &a.report
	r.Beat = time.Now()
	switch {
	case m.Hello != nil:
		r.Hello = m.Hello
	case m.Progress != nil:
		if p := *m.Progress; r.Progress.Phase == "" || p.Phase == PhaseSetup || p.Phase == PhasePrepare {
			r.Resumed = p.Checkpoint
		}
		r.Progress, r.Moved = *m.Progress, r.Beat
	case m.Beat != nil:
		if m.Beat.Done > r.Latest.Done {
			r.Moved = r.Beat
		}
		r.Latest = *m.Beat
	case m.Metrics != nil:
		all := maps.Clone(r.Metrics) // who has a Report has the map that was
		if all == nil {
			all = Metrics{}
		}
		maps.Copy(all, m.Metrics)
		if len(all) <= maxMetrics {
			r.Metrics = all
		}
	case m.Stacks != nil:
		for _, answer := range a.tracing {
			answer <- m.Stacks.Text // has room for one
		}
		a.tracing = nil
	case m.Error != nil && r.Error == nil:
		r.Error, r.ErrorAt = m.Error, r.Beat
		close(a.failed)
	case m.Done != nil:
		r.Done = m.Done
	}
}

// answer serves one request: in turn where it does not wait, in a goroutine of its own where it does.
func (a *Agent) answer(ctx context.Context, q Request, requests *sync.WaitGroup) error {
	if q.Op != opGet && q.Op != opWait {
		return a.line.send(message{Reply: Answer(ctx, a.store, q)})
	}
	select {
	case a.waiting <- struct{}{}:
	default:
		return fmt.Errorf("pipe: more than %d requests wait at the same time", maxWaiting)
	}
	requests.Go(func() {
		defer func() { <-a.waiting }()
		ctx, cancel := context.WithTimeout(ctx, time.Duration(q.TimeoutMS)*time.Millisecond)
		defer cancel()
		a.line.send(message{Reply: Answer(ctx, a.store, q)}) // to a worker that is gone: nobody waits for it
	})
	return nil
}
