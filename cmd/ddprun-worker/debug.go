package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ddprun/ddprun/internal/train"
)

// debugTimeoutSeconds is ddp_timeout at least where a rank is debugged: the others wait while somebody thinks.
const debugTimeoutSeconds = 7 * 24 * 3600

// awaitDebugger waits until a debugger is attached to this process.
func awaitDebugger(ctx context.Context, activity *train.Activity, rank int, stderr io.Writer) {
	activity.AwaitDebugger()
	_ = unix.Prctl(unix.PR_SET_PTRACER, unix.PR_SET_PTRACER_ANY, 0, 0, 0) // fails where no such permission is wanted (Yama)
	fmt.Fprintf(stderr, "ddprun: rank %d waits for a debugger: gdb -p %d, or dlv attach %d; it goes on when one is attached and lets it\n", rank, os.Getpid(), os.Getpid())
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !debugged() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	fmt.Fprintf(stderr, "ddprun: rank %d: a debugger is attached\n", rank)
}

// debugged says whether a debugger is attached to this process.
func debugged() bool {
	status, err := os.ReadFile("/proc/self/status")
	return err == nil && strings.Contains(string(status), "\nTracerPid:\t") && !strings.Contains(string(status), "\nTracerPid:\t0\n")
}
