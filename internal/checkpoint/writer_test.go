package checkpoint

import (
	"context"
	"errors"
	"testing"
)

func TestWriterSavesOneAtATime(t *testing.T) {
	begun, release := make(chan int64), make(chan struct{})
	running := 0 // the race detector watches it
	w := NewWriter(context.Background(), func(_ context.Context, s Snapshot) error {
		running++
		if running != 1 {
			t.Error("two saves at once")
		}
		begun <- s.State.Step
		<-release
		running--
		return nil
	})
	if err := w.Start(Snapshot{State: State{Step: 1}}); err != nil {
		t.Fatal(err)
	}
	if step := <-begun; step != 1 { // Start has returned while the save runs
		t.Errorf("step %d", step)
	}
	second := make(chan error)
	go func() { second <- w.Start(Snapshot{State: State{Step: 2}}) }()
	select {
	case <-begun:
		t.Error("the second save did not wait")
	case <-second:
		t.Error("Start did not wait for the first save")
	case release <- struct{}{}:
	}
	if step := <-begun; step != 2 {
		t.Errorf("step %d", step)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
	release <- struct{}{}
	if err := errors.Join(w.Wait(), w.Close(), w.Close()); err != nil {
		t.Error(err)
	}
}

func TestWriterKeepsItsFailure(t *testing.T) {
	full, calls := errors.New("disk full"), 0
	w := NewWriter(context.Background(), func(context.Context, Snapshot) error {
		calls++
		return full
	})
	if err := w.Err(); err != nil {
		t.Error(err)
	}
	if err := w.Start(Snapshot{}); err != nil {
		t.Errorf("the failure came before the save: %v", err)
	}
	for name, err := range map[string]error{"Wait": w.Wait(), "Err": w.Err(), "Start": w.Start(Snapshot{}), "Close": w.Close()} {
		if !errors.Is(err, full) {
			t.Errorf("%s returned %v", name, err)
		}
	}
	if calls != 1 {
		t.Errorf("%d saves after a failure", calls-1)
	}
}

func TestWriterGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	w := NewWriter(ctx, func(ctx context.Context, _ Snapshot) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if err := w.Start(Snapshot{}); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := w.Close(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
