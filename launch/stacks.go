package launch

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	stacksWithin = time.Second            // for workers to answer with their stacks
	crashWithin  = 500 * time.Millisecond // for one that has not, to print them at its end
)

// fileStacks files the stacks of all workers because one is at fault: where all wait, what the others do tells as much. That one is made to end
// with them (SIGQUIT, which Go's runtime answers by itself) if it does not answer; it is killed next anyway.
func (a *attempt) fileStacks(ctx context.Context, guilty *worker) {
	answered := a.collectStacks(ctx, fmt.Sprintf("rank %d: %s", guilty.start.Rank, guilty.fault.message), nil)
	if answered[guilty] || ctx.Err() != nil {
		return
	}
	guilty.signal(syscall.SIGQUIT)
	select {
	case <-time.After(crashWithin):
	case <-ctx.Done():
	}
}

// showStacks files the stacks of all workers and shows them, because somebody has asked for them.
func (a *attempt) showStacks(ctx context.Context) {
	a.run.Logger.Info().Str("log_dir", a.dir).Msg("SIGQUIT: the stacks of all workers, also in their stderr.log; the run goes on")
	a.collectStacks(ctx, "SIGQUIT", a.run.stderr)
}

// collectStacks asks all workers for their stacks, and writes them into their logs and on shown, if that is not nil, with what the kernel says of
// their threads. It returns who has answered in time.
func (a *attempt) collectStacks(ctx context.Context, why string, shown *screen) map[*worker]bool {
	ctx, cancel := context.WithTimeout(ctx, stacksWithin)
	defer cancel()
	answered := map[*worker]bool{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, w := range a.workers {
		if w.gone() {
			continue
		}
		all.Go(func() {
			text, err := w.agent.Stacks(ctx)
			if err != nil {
				text = "it does not answer: no stacks of goroutines"
			}
			w.insert(w.describeThreads(why)+text, shown)
			mu.Lock()
			defer mu.Unlock()
			answered[w] = err == nil
		})
	}
	all.Wait()
	return answered
}

// describeThreads heads a worker's stacks: why they were taken, what it does, and what the kernel says of its threads.
func (w *worker) describeThreads(why string) string {
	var b strings.Builder
	r := w.agent.Report()
	fmt.Fprintf(&b, "==== stacks of rank %d (pid %d), %s: %s\n", w.start.Rank, w.process.Pid, time.Now().Format(time.DateTime), why)
	fmt.Fprintf(&b, "phase %s, step %d%s; last message %v ago, last progress %v ago\n", r.Progress.Phase, r.Progress.Step, doing(r), since(r.Beat), since(r.Moved))
	for _, t := range threadsOf(w.process.Pid) {
		fmt.Fprintf(&b, "thread %d %s: %c %s\n", t.id, t.name, t.state, t.waits)
	}
	return b.String()
}

// since is the time since at for people; at may be zero, for never.
func since(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return time.Since(at).Round(100 * time.Millisecond).String()
}
