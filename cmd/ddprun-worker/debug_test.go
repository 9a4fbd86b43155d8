package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ddprun/ddprun/internal/train"
)

func TestAwaitDebuggerEndsWithTheRun(t *testing.T) {
	if debugged() {
		t.Skip("a debugger is attached")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var activity train.Activity
	var said strings.Builder
	ended := make(chan struct{})
	go func() { defer close(ended); awaitDebugger(ctx, &activity, 3, &said) }()
	for {
		if doing, _, _ := activity.Now(); doing == "waiting for a debugger" {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-ended
	if want := fmt.Sprintf("rank 3 waits for a debugger: gdb -p %d, or dlv attach %d;", os.Getpid(), os.Getpid()); !strings.Contains(said.String(), want) {
		t.Errorf("%q", said.String())
	}
}

// TestAttachedDebuggerIsSeen starts this test binary under strace, which attaches as a debugger does.
func TestAttachedDebuggerIsSeen(t *testing.T) {
	if os.Getenv("DDPRUN_TEST_DEBUGGED") != "" {
		fmt.Println("debugged:", debugged())
		return
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace")
	}
	cmd := exec.Command(strace, "-f", "-qq", "-e", "trace=none", os.Args[0], "-test.run", "^TestAttachedDebuggerIsSeen$", "-test.v")
	cmd.Env = append(os.Environ(), "DDPRUN_TEST_DEBUGGED=1")
	out, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(out), "ptrace") {
		t.Skipf("ptrace: %s", out)
	}
	if !strings.Contains(string(out), "debugged: true") {
		t.Errorf("%v\n%s", err, out)
	}
}
