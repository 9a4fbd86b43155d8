package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ddprun/ddprun/launch"
)

const workerName = "ddprun-worker"

// workerCommands are the commands that ddprun-worker carries out, since they need libtorch or a tokenizer.
var workerCommands = []struct{ use, short string }{
	{"eval MODEL --data FILE", "Evaluate a model; one JSON object on standard output"},
	{"prepare train.yaml", "Turn the text into token shards ahead of time"},
	{"inspect train.yaml", "Show samples as the model gets them, with what is hidden"},
	{"tokenize MODEL", "Lines on standard input become token ids, one JSON object a line"},
}

// newWorkerCommand is a command that becomes ddprun-worker with the same arguments.
func newWorkerCommand(command struct{ use, short string }, worker *string) *cobra.Command {
	return &cobra.Command{
		Use:                command.use,
		Short:              command.short,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := findWorker(*worker)
			if err != nil {
				return err
			}
			argv := append([]string{path, cmd.Name()}, args...)
			return fmt.Errorf("%s: %w", path, syscall.Exec(path, argv, os.Environ()))
		},
	}
}

// findWorker returns the path of ddprun-worker: the one that a flag names, the one beside this program, or that in PATH.
func findWorker(flag string) (string, error) {
	if flag != "" {
		path, err := exec.LookPath(flag)
		if err != nil {
			return "", fmt.Errorf("--worker: %w", err)
		}
		return filepath.Abs(path)
	}
	if self, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), workerName)); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(workerName)
	if err != nil {
		return "", fmt.Errorf("%s is neither beside ddprun nor in PATH; \"make build\" builds it, --worker names another place", workerName)
	}
	return filepath.Abs(path)
}

// checkRequest is what ddprun-worker checks beside the configuration.
type checkRequest struct {
	least, most int    // ranks of the run
	local       int    // of them, on this node
	runID       string // empty: one that nobody has begun
	shared      bool   // other nodes check the same, and may use what this one has made
	dry         bool   // leave nothing behind
}

// workerCheck has ddprun-worker check what needs libtorch or a tokenizer, before the ranks start. Its protocol: the settled
// configuration as JSON on standard input; exit code 0 where all is well, 78 where the configuration or input is wrong; on standard output one JSON object of
// digests of what must be the same on every node (model, tokenizer, shards, program). What it says, for people, goes to stderr as it comes: preparing a
// large text takes a while.
func workerCheck(ctx context.Context, worker string, o checkRequest, settled []byte, stderr io.Writer) (digests map[string]string, err error) {
	// The check ends with this program: Pdeathsig goes by the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, worker, "check", "--nproc", strconv.Itoa(o.least), "--max-nproc", strconv.Itoa(o.most), "--local-nproc", strconv.Itoa(o.local),
		"--run-id", o.runID, "--dry-run="+strconv.FormatBool(o.dry), "--shared="+strconv.FormatBool(o.shared))
	cmd.Stdin = bytes.NewReader(settled)
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = runSignalled(cmd)
	var exit *exec.ExitError
	switch {
	case err == nil:
		if err := json.Unmarshal(stdout.Bytes(), &digests); err != nil {
			return nil, fmt.Errorf("%s check: what it has found cannot be read: %w; are the two programs of one version?", worker, err)
		}
		return digests, nil
	case !errors.As(err, &exit):
		return nil, fmt.Errorf("start %s: %w", worker, err)
	case exit.ExitCode() == launch.ExitConfig:
		return nil, &exitError{launch.ExitConfig, nil} // it has said why
	case exit.ExitCode() == launch.ExitComeAgain:
		return nil, &exitError{launch.ExitComeAgain, nil} // a large text is prepared in part
	case exit.ExitCode() == 127: // the dynamic loader's: a library is missing
		return nil, fmt.Errorf("%s does not start; \"make setup\" and \"make build\" put its libraries in place", worker)
	}
	return nil, &exitError{launch.ExitFailed, fmt.Errorf("%s check: %w", worker, err)}
}

// runSignalled runs a command that TERM, INT, HUP and USR1 ask to stop: it gets TERM, and leaves what it has finished. A second INT or TERM,
// more than 2 s after the first signal, ends it at once, and this program with it.
func runSignalled(cmd *exec.Cmd) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGUSR1)
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		signal.Notify(signals, syscall.SIGHUP)
	}
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var first time.Time
	for {
		select {
		case err := <-done:
			return err
		case s := <-signals:
			switch {
			case first.IsZero():
				first = time.Now()
				_ = cmd.Process.Signal(syscall.SIGTERM) // fails where it has ended
			case time.Since(first) > 2*time.Second && (s == os.Interrupt || s == syscall.SIGTERM):
				_ = cmd.Process.Kill()
				err := <-done
				signal.Reset(s)
				_ = syscall.Kill(os.Getpid(), s.(syscall.Signal))
				return err
			}
		}
	}
}
