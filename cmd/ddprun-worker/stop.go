package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/ddprun/ddprun/launch/pipe"
)

// stopGrace is for how long further signals count as the first one: a terminal or a scheduler signals every process, and so does who is
// asked to pass it on. One that comes later ends the process at once.
const stopGrace = 2 * time.Second

// untilSignal returns a context that TERM, INT, HUP or USR1 ends, until release is called.
func untilSignal(ctx context.Context) (_ context.Context, release func()) {
	signals := []os.Signal{syscall.SIGTERM, os.Interrupt, syscall.SIGUSR1}
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(ctx, signals...)
	after := context.AfterFunc(ctx, func() {
		time.Sleep(stopGrace)
		stop()
	})
	return ctx, func() {
		after()
		stop()
	}
}

// errAsked ends what a rank does before it meets the others, once its agent has asked it to stop.
var errAsked = errors.New("asked to stop")

// untilAsked returns a context that the agent's request to stop ends too, with errAsked as its cause, until release is called.
func untilAsked(ctx context.Context, line *pipe.Worker) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-line.Stop():
			cancel(errAsked)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// stopped turns the error of work that a signal has ended into one that asks to come again.
func stopped(ctx context.Context, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) && !errors.Is(err, errStopped) {
		return fmt.Errorf("preparing the text was %w", errStopped)
	}
	return err
}
