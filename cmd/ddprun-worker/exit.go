package main

import "errors"

// exitInput is the exit code for wrong configuration or input; nothing was started.
const exitInput = 78

// inputError marks an error as one of the user's input, which no retry mends.
type inputError struct{ error }

func (e inputError) Unwrap() error { return e.error }

// exitCode is the process's exit code for the error that ended it.
func exitCode(err error) int {
	var wrong inputError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &wrong):
		return exitInput
	}
	return 1
}
