package pipe

import (
	"errors"
	"fmt"
	"time"
)

// answerTimeout bounds how long a worker waits for the agent's answer beyond the time that the request itself may take.
// Only an agent that is stopped or starved takes longer.
const answerTimeout = 30 * time.Second

// Store returns the agent's key-value store. Its keys are those of the worker's generation.
func (w *Worker) Store() Store { return client{w} }

type client struct{ w *Worker }

func (c client) Set(key string, value []byte) error {
	_, err := c.w.ask(Request{Op: opSet, Keys: []string{key}, Value: value}, 0)
	return err
}

func (c client) Get(key string, timeout time.Duration) ([]byte, error) {
	r, err := c.w.ask(Request{Op: opGet, Keys: []string{key}}, timeout)
	return r.Value, err
}

func (c client) Add(key string, delta int64) (int64, error) {
	r, err := c.w.ask(Request{Op: opAdd, Keys: []string{key}, Delta: delta}, 0)
	return r.Number, err
}

func (c client) Wait(keys []string, timeout time.Duration) error {
	_, err := c.w.ask(Request{Op: opWait, Keys: keys}, timeout)
	return err
}

func (c client) Check(keys []string) (bool, error) {
	r, err := c.w.ask(Request{Op: opCheck, Keys: keys}, 0)
	return r.Flag, err
}

func (c client) Delete(key string) (bool, error) {
	r, err := c.w.ask(Request{Op: opDelete, Keys: []string{key}}, 0)
	return r.Flag, err
}

// ask sends q and waits for its reply. The agent ends a wait after timeout; the worker's own clock is there for an agent
// that does not answer.
func (w *Worker) ask(q Request, timeout time.Duration) (Reply, error) {
	timeout = max(timeout, 0)
	q.TimeoutMS = int64((timeout + time.Millisecond - 1) / time.Millisecond)
	waiting := make(chan Reply, 1)
	w.mu.Lock()
	w.lastID++
	q.ID = w.lastID
	w.replies[q.ID] = waiting
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.replies, q.ID)
		w.mu.Unlock()
	}()
	if err := w.line.send(message{Request: &q}); err != nil {
		return Reply{}, err
	}
	clock := time.NewTimer(timeout + answerTimeout)
	defer clock.Stop()
	select {
	case r := <-waiting:
		return r, r.err(q)
	case <-w.lost:
		return Reply{}, ErrLost
	case <-clock.C:
		return Reply{}, fmt.Errorf("%w: the agent did not answer %s %q", ErrTimeout, q.Op, q.Keys)
	}
}

// err is the reply's error as the store returned it.
func (r Reply) err(q Request) error {
	switch {
	case r.Timeout:
		return fmt.Errorf("%w: %s %q was not set within %v", ErrTimeout, q.Op, q.Keys, time.Duration(q.TimeoutMS)*time.Millisecond)
	case r.Error != "":
		return errors.New(r.Error)
	}
	return nil
}
