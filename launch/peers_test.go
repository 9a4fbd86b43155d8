package launch

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A path is lost when nothing has come over it for a lease, and not when a try is slow or every other one fails.
func TestUntilLost(t *testing.T) {
	const lease, timeout = 4 * time.Second, 3 * time.Second
	broken := errors.New("broken")
	// after is a path that takes so long for a try; a negative time is a try that is given up.
	for name, c := range map[string]struct {
		after func(since time.Duration, n int) time.Duration
		lost  time.Duration // how long after the start at least, and a second more at most; 0: never
	}{
		"well": {func(time.Duration, int) time.Duration { return time.Millisecond }, 0},
		"slow": {func(time.Duration, int) time.Duration { return timeout - time.Millisecond }, 0},
		"every other try is lost": {func(_ time.Duration, n int) time.Duration {
			if n%2 == 0 {
				return -1
			}
			return 1600 * time.Millisecond
		}, 0},
		"cut for less than a lease": {func(since time.Duration, n int) time.Duration {
			if since > 10*time.Second && since < 12500*time.Millisecond {
				return -1
			}
			return time.Millisecond
		}, 0},
		"cut": {func(since time.Duration, n int) time.Duration {
			if since > 10*time.Second {
				return -1
			}
			return time.Millisecond
		}, 14 * time.Second},
		"never there": {func(time.Duration, int) time.Duration { return -1 }, 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				var n atomic.Int64
				err := untilLost(ctx, lease, func(ctx context.Context) error {
					takes := c.after(time.Since(start), int(n.Add(1)))
					gone := takes < 0
					if gone {
						takes = timeout
					}
					select {
					case <-time.After(takes):
					case <-ctx.Done():
					}
					if gone {
						return broken
					}
					return ctx.Err()
				})
				switch took := time.Since(start); {
				case c.lost == 0 && !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("lost after %v: %v", took, err)
				case c.lost > 0 && (err != broken || took < c.lost || took > c.lost+time.Second+time.Millisecond):
					t.Errorf("%v after %v, want it lost after %v", err, took, c.lost)
				}
			})
		})
	}
}
