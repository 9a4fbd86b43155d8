package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/ddprun/ddprun/internal/train"
	"github.com/ddprun/ddprun/launch/pipe"
)

// errLease ends a rank whose agent is stopped or cut off from the others: they may have gone on without it.
var errLease = errors.New("the agent has not renewed this rank's lease: it is stopped, or cut off from the other nodes")

// leaseCheck is how often a worker looks at its lease. It does not sleep until the end of it: sleeping stands still while the machine
// sleeps, and the lease does not.
const leaseCheck = 50 * time.Millisecond

// exit ends the process; tests replace it.
var exit = os.Exit

// endWithLease ends this process, whatever it is doing, when its lease has passed.
func endWithLease(ctx context.Context, line *pipe.Worker, stderr io.Writer) {
	tick := time.NewTicker(leaseCheck)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if left, limited := line.Lease(); limited && left <= 0 {
			said := make(chan struct{})
			go func() { // who reads stderr may be stopped too
				fmt.Fprintf(stderr, "ddprun: %v\n", errLease)
				close(said)
			}()
			select {
			case <-said:
			case <-time.After(leaseCheck):
			}
			// One that was stopped between two operations on files may be about to undo the first one.
			release := train.Quiesce(time.Second)
			exit(exitCode(errLease))
			release()
			return
		}
	}
}
