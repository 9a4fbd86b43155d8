package main

import (
	"errors"

	"github.com/ddprun/ddprun/internal/train"
	"github.com/ddprun/ddprun/launch/pipe"
)

// exitInput is the exit code for wrong configuration or input; nothing was started.
const exitInput = 78

// exitComeAgain is the exit code of a rank that was stopped on request and has saved.
const exitComeAgain = 75

// inputError marks an error as one of the user's input, which no retry mends.
type inputError struct{ error }

func (e inputError) Unwrap() error { return e.error }

// exitCode is the process's exit code for the error that ended it.
func exitCode(err error) int {
	var wrong inputError
	switch {
	case err == nil:
		return 0
	case pipe.Passing(err):
		return 1
	case errors.As(err, &wrong), errors.Is(err, train.ErrInput):
		return exitInput
	case errors.Is(err, errStopped):
		return exitComeAgain
	}
	return 1
}
