package main

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/ddprun/ddprun/internal/train"
)

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("disk full"), 1},
		{inputError{errors.New("x")}, 78},
		{fmt.Errorf("check: %w", inputError{errors.New("x")}), 78},
		{fmt.Errorf("rank: %w", train.ErrInput), 78},
		{errors.Join(train.ErrInput, errors.New("the pipe is gone")), 78},
		{inputError{&fs.PathError{Op: "read", Path: "shards", Err: syscall.EIO}}, 1},
		{train.ErrPeer, 1},
		{train.ErrPermanent, 1},
		{errors.Join(nil, errStopped), 75},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

func TestUnknownCommand(t *testing.T) {
	_, err := worker("", "tokenise")
	if code := exitCode(err); code != exitInput {
		t.Errorf("exit code %d: %v", code, err)
	}
}
