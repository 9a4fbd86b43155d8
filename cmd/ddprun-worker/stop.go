package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
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

// stopped turns the error of work that a signal has ended into one that asks to come again.
func stopped(ctx context.Context, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) && !errors.Is(err, errStopped) {
		return fmt.Errorf("preparing the text was %w", errStopped)
	}
	return err
}
