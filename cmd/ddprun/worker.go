package main

import (
	"bytes"
	"context"
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

// workerCheck has ddprun-worker check what needs libtorch or a tokenizer, before the ranks start. Its protocol: the settled
// configuration as JSON on standard input; exit code 0 where all is well, 78 where the configuration or input is wrong. What it says,
// for people, goes to stderr as it comes: preparing a large text takes a while.
func workerCheck(ctx context.Context, worker string, nproc int, dry bool, settled []byte, stderr io.Writer) error {
	// The check ends with this program: Pdeathsig goes by the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, worker, "check", "--nproc", strconv.Itoa(nproc), "--dry-run="+strconv.FormatBool(dry))
	cmd.Stdin = bytes.NewReader(settled)
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := runSignalled(cmd)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return fmt.Errorf("start %s: %w", worker, err)
	case exit.ExitCode() == launch.ExitConfig:
		return &exitError{launch.ExitConfig, nil} // it has said why
	case exit.ExitCode() == launch.ExitComeAgain:
		return &exitError{launch.ExitComeAgain, nil} // a large text is prepared in part
	case exit.ExitCode() == 127: // the dynamic loader's: a library is missing
		return fmt.Errorf("%s does not start; \"make setup\" and \"make build\" put its libraries in place", worker)
	}
	return &exitError{launch.ExitFailed, fmt.Errorf("%s check: %w", worker, err)}
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
