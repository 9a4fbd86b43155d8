package mesh

import "sync"

// Bounds of what waits for one peer.
const (
	maxQueued      = 1024
	maxQueuedBytes = 2 * MaxMessageBytes
	maxTakenBytes  = 64 << 10 // written at once
)

// queue holds the lines for one peer, over the breaks of its connection. The oldest go when there are too many.
type queue struct {
	filled chan struct{} // has a token while there is something to take

	mu    sync.Mutex
	lines [][]byte
	bytes int
	bye   bool
}

func newQueue() *queue { return &queue{filled: make(chan struct{}, 1)} }

// put adds line and says how many were given up for it.
func (q *queue) put(line []byte) (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lines = append(q.lines, line)
	q.bytes += len(line)
	for len(q.lines) > maxQueued || q.bytes > maxQueuedBytes {
		q.bytes -= len(q.lines[0])
		q.lines[0] = nil
		q.lines = q.lines[1:]
		dropped++
	}
	q.signal()
	return dropped
}

// leave makes farewell the last line.
func (q *queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bye = true
	q.signal()
}

// take returns the next lines, and whether they end with farewell.
func (q *queue) take() (data []byte, bye bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.lines) > 0 && (data == nil || len(data)+len(q.lines[0]) <= maxTakenBytes) {
		data = append(data, q.lines[0]...)
		q.bytes -= len(q.lines[0])
		q.lines[0] = nil
		q.lines = q.lines[1:]
	}
	if len(q.lines) == 0 && q.bye {
		return append(data, `{"bye":true}`+"\n"...), true
	}
	q.signal()
	return data, false
}

// clear forgets what waits: it was meant for who is gone.
func (q *queue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lines, q.bytes = nil, 0
}

func (q *queue) signal() {
	if len(q.lines) == 0 && !q.bye {
		return
	}
	select {
	case q.filled <- struct{}{}:
	default:
	}
}
