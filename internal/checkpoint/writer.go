package checkpoint

import (
	"context"
	"sync"
)

// Writer saves snapshots in the background, one at a time. Its methods are for one goroutine, the training loop:
//
//	if err := w.Wait(); err != nil { ... }  // the earlier snapshot is written: its buffers are free again
//	copy parameters and moments into the snapshot
//	w.Start(snapshot)                       // the loop goes on
//
// After a failure nothing more is written, and every method returns that failure.
type Writer struct {
	save   func(context.Context, Snapshot) error
	ctx    context.Context
	cancel context.CancelFunc

	running sync.WaitGroup
	mu      sync.Mutex
	failure error
}

// NewWriter returns a writer that saves by calling save (Save, and after it Prune) on a goroutine of its own. Close ends it;
// the end of ctx makes it give up the save under way.
func NewWriter(ctx context.Context, save func(context.Context, Snapshot) error) *Writer {
	ctx, cancel := context.WithCancel(ctx)
	return &Writer{save: save, ctx: ctx, cancel: cancel}
}

// Err returns the first failure so far, without waiting. The loop asks it at each step.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failure
}

// Wait blocks until nothing is being written and returns the first failure so far.
func (w *Writer) Wait() error {
	w.running.Wait()
	return w.Err()
}

// Start waits for an earlier save and begins this one. The snapshot and its buffers belong to the writer until Wait
// returns.
func (w *Writer) Start(s Snapshot) error {
	if err := w.Wait(); err != nil {
		return err
	}
	w.running.Go(func() {
		if err := w.save(w.ctx, s); err != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.failure = err
		}
	})
	return nil
}

// Close waits for the save under way and returns the first failure. It may be called again.
func (w *Writer) Close() error {
	err := w.Wait()
	w.cancel()
	return err
}
