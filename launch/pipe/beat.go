package pipe

import (
	"runtime"
	"time"
)

// beatEvery is how often a worker sends a Beat.
const beatEvery = time.Second

// maxStacks bounds the text of a worker's stacks, in bytes.
const maxStacks = 1 << 20

// Observe makes the worker's beats tell what activity returns. It is called once a second from another goroutine and must not block.
func (w *Worker) Observe(activity func() Activity) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.observe = activity
}

// beat sends beats until the line ends. It has a goroutine of its own, so that they come whatever the work does; one that does not come
// means that the process does not run.
func (w *Worker) beat() {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if w.line.send(message{Beat: w.newBeat()}) != nil {
				return
			}
		case <-w.lost:
			return
		}
	}
}

func (w *Worker) newBeat() *Beat {
	w.mu.Lock()
	p, lasts, observe := w.progress, time.Since(w.moved), w.observe
	w.mu.Unlock()
	b := &Beat{Phase: p.Phase, Step: p.Step, Checkpoint: p.Checkpoint, LastsMS: lasts.Milliseconds()}
	if observe != nil {
		b.Activity = observe()
	}
	return b
}

// sendStacks answers a trace. A goroutine that is in C is shown down to the Go function that called it.
func (w *Worker) sendStacks() {
	size := 64 << 10
	for {
		text := make([]byte, size)
		n := runtime.Stack(text, true)
		if n < size || size >= maxStacks {
			w.line.send(message{Stacks: &stacks{Text: string(text[:n])}}) // to an agent that is gone: nobody waits for it
			return
		}
		size *= 2
	}
}
