package ddp

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/ddprun/ddprun/nccl"
)

// How often the watchdog looks at the communicator, and after how many looks it asks the store whether a peer has failed.
const (
	watchEvery = 20 * time.Millisecond
	askEvery   = 10
)

// watch is the watchdog: it looks for asynchronous errors, collectives that do not end, and peers that have failed.
func (g *ncclGroup) watch() {
	defer close(g.watched)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = g.cuda.SetDevice(g.config.Device) // or what it asks would take memory of the first GPU; join has set it, too, and would have failed
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for look := 1; ; look++ {
		select {
		case <-g.closing:
			return
		case <-g.failed:
			return
		case <-ticker.C:
		}
		if err, late := g.look(look%askEvery == 0); err != nil {
			g.fail(err, late)
			return
		}
	}
}

// look returns what is wrong, and whether it is only that nothing moves.
func (g *ncclGroup) look(ask bool) (err error, late bool) {
	if err := g.comm.AsyncError(); err != nil && err != nccl.ErrInProgress && err != nccl.ErrClosed {
		return err, false
	}
	if err := g.settle(); err != nil {
		return err, false
	}
	if w := g.stuck(time.Now()); w != nil {
		return fmt.Errorf("%w: %v", ErrLate, g.config.Timeout), true
	}
	if ask {
		if failed, err := g.store.Check([]string{failedKey}); err == nil && failed {
			return errors.New("a peer has failed"), true
		}
	}
	return nil, false
}

// stuck returns the oldest collective where it has had its time.
func (g *ncclGroup) stuck(now time.Time) *ncclWork {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.pending) == 0 {
		return nil
	}
	w := g.pending[0]
	since := w.began
	if g.moved.After(since) {
		since = g.moved
	}
	if now.Sub(since) < g.config.Timeout {
		return nil
	}
	return w
}

// Keys of the store.
const failedKey = "failed"

func flightKey(rank int) string { return fmt.Sprint("flight/", rank) }

// grace is how long a rank that has failed waits for the others' records.
const grace = 2 * time.Second

// fail ends the group, once: it shows this rank's record, gets the others', says with them what is wrong, writes all of it down, and aborts. It
// returns when that is done.
func (g *ncclGroup) fail(err error, late bool) {
	g.end(err, late, grace)
}

// Abort ends the group with what is under way; the peers learn of it from the store.
func (g *ncclGroup) Abort() { g.end(ErrAborted, false, 0) }

func (g *ncclGroup) end(err error, late bool, wait time.Duration) {
	g.fails.Do(func() {
		reports := g.exchange(err, late, wait)
		text := blame(g.size, reports)
		if late {
			text = err.Error() + ": " + text
		}
		g.err = groupError{fmt.Sprintf("rank %d of %d: %s", g.rank, g.size, text), err}
		if err == ErrAborted {
			g.err = fmt.Errorf("rank %d of %d: %w", g.rank, g.size, err)
		} else if e := g.dump(reports); e != nil {
			g.err = fmt.Errorf("%w (the record of the last collectives could not be written: %v)", g.err, e)
		}
		g.mu.Lock()
		g.broken = true
		g.mu.Unlock()
		_ = g.comm.Abort() // the group is useless in any case
		// The tensors are their owners' again when the stream is empty.
		_ = g.cuda.StreamSynchronize(g.stream)
		close(g.failed)
	})
}

// groupError is an error with what the ranks' records say of it.
type groupError struct {
	text  string
	cause error
}

func (e groupError) Error() string { return e.text }
func (e groupError) Unwrap() error { return e.cause }

// exchange shows this rank's record to the others and returns theirs, as many as come within wait.
func (g *ncclGroup) exchange(err error, late bool, wait time.Duration) map[int]flightReport {
	deadline := time.Now().Add(wait)
	mine := g.record.report(g.rank, err, late)
	reports := map[int]flightReport{g.rank: mine}
	raw, e := json.Marshal(mine)
	if e != nil {
		panic(e) // numbers and strings
	}
	if g.store.Set(flightKey(g.rank), raw) != nil || g.store.Set(failedKey, nil) != nil || wait == 0 {
		return reports // without a store there is no agent, and this process ends anyhow
	}
	for rank := range g.size {
		if rank == g.rank {
			continue
		}
		theirs, err := g.store.Get(flightKey(rank), max(time.Millisecond, time.Until(deadline)))
		var r flightReport
		if err == nil && json.Unmarshal(theirs, &r) == nil && r.Rank == rank {
			reports[rank] = r
		}
	}
	return reports
}

// flightDump is the file that a rank leaves: its error, and every rank's last collectives.
type flightDump struct {
	Rank  int                  `json:"rank"`
	Size  int                  `json:"size"`
	PID   int                  `json:"pid"`
	Error string               `json:"error"`
	Ranks map[int]flightReport `json:"ranks"`
}

func (g *ncclGroup) dump(reports map[int]flightReport) error {
	if g.config.Dump == "" {
		return nil
	}
	raw, err := json.MarshalIndent(flightDump{g.rank, g.size, os.Getpid(), g.err.Error(), reports}, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(g.config.Dump), 0o755); err != nil {
		return err
	}
	return os.WriteFile(g.config.Dump, append(raw, '\n'), 0o644)
}
