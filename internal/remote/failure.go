package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// ErrChanged is wrapped by the error for a source that is no longer the version that Stat saw.
var ErrChanged = errors.New("changed while it was being read; run again once it is complete")

// ErrNotFound is wrapped by the error for a source that is not there.
var ErrNotFound = errors.New("there is no such object")

var (
	errStalled = errors.New("the connection stood still")
	errEnded   = errors.New("the connection ended early")
)

// failure is an answer after which another try gives the same, unless again is set.
type failure struct {
	err   error
	again bool
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

var errForbidden = errors.New("the server refuses access: credentials are missing, expired or not allowed to read it (docs/data.md says where they come from)")

// statusError is what an HTTP status means.
func statusError(status int) error {
	switch status {
	case http.StatusNotFound, http.StatusGone:
		return &failure{err: ErrNotFound}
	case http.StatusUnauthorized, http.StatusForbidden:
		return &failure{err: fmt.Errorf("%w (%s)", errForbidden, http.StatusText(status))}
	case http.StatusPreconditionFailed:
		return &failure{err: ErrChanged}
	}
	return &failure{err: fmt.Errorf("the server answers %d %s", status, http.StatusText(status)),
		again: status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout}
}

// bucketError is what an error of Go CDK means. The services' own clients have tried several times.
func bucketError(b *blob.Bucket, err error) error {
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		return &failure{err: ErrNotFound}
	case gcerrors.PermissionDenied:
		return &failure{err: fmt.Errorf("%w: %s", errForbidden, clean(err))}
	case gcerrors.FailedPrecondition:
		return &failure{err: ErrChanged}
	case gcerrors.InvalidArgument, gcerrors.Unimplemented:
		return &failure{err: err}
	}
	return err
}

// retry calls f until it succeeds, pausing longer each time. What no further try can mend ends it at once.
func (s *Store) retry(ctx context.Context, name string, f func(try int) (int, error)) error {
	pause := s.pause
	for try := 1; ; try++ {
		_, err := f(try)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("remote: %s: %w", name, ctx.Err())
		}
		var known *failure
		if errors.As(err, &known) && !known.again {
			return s.explain(name, err)
		}
		if try == s.tries {
			return s.explain(name, fmt.Errorf("given up after %d tries: %w", try, err))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remote: %s: %w", name, ctx.Err())
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// explain names the source, and hides what libraries put into their messages.
func (s *Store) explain(name string, err error) error {
	e := &sourceError{text: "remote: " + clean(errors.New(name)) + ": " + clean(err)}
	for _, kind := range []error{ErrChanged, ErrNotFound, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, kind) {
			e.kind = kind
		}
	}
	return e
}

// sourceError does not wrap the library's error, whose text may hold a signed URL.
type sourceError struct {
	text string
	kind error
}

func (e *sourceError) Error() string { return e.text }
func (e *sourceError) Unwrap() error { return e.kind }

// SourceChanged tells package shard that the source is worth listing again.
func (e *sourceError) SourceChanged() bool { return e.kind == ErrChanged }

var (
	queryInText = regexp.MustCompile(`(://[^\s"'?]*)\?[^\s"']*`)
	userInText  = regexp.MustCompile(`://[^\s"'/@]*@`)
)

// clean is an error's text without the queries and credentials of URLs.
func clean(err error) string {
	return userInText.ReplaceAllString(queryInText.ReplaceAllString(err.Error(), "$1"), "://...@")
}
