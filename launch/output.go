package launch

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	partialAfter  = 500 * time.Millisecond // a line without an end is shown after this time
	drainTimeout  = 2 * time.Second        // how long output may still come after a worker's end, from a child of it
	tailLines     = 20                     // lines kept for the report of a failure
	tailLineBytes = 2 << 10                // of each
)

// screen is a writer that several streams share.
type screen struct {
	mu sync.Mutex
	w  io.Writer
}

// write writes whole lines. A screen that is gone (a closed pipe) does not end the run.
func (s *screen) write(lines []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w.Write(lines)
}

// stream carries one output of one worker to its log file, as it is, and line by line, repetitions counted, to the screen and the tail.
type stream struct {
	from   *os.File // read end of the worker's pipe
	file   *logFile // nil: none
	screen *screen  // nil: not shown
	tail   *tail
	prefix string
	log    zerolog.Logger

	mu  sync.Mutex
	end time.Time // when to stop reading; zero while the worker lives
}

// run reads until all who hold the other end have closed it, or until drainTimeout after workerEnded.
func (s *stream) run() {
	defer s.close()
	var lines splitter
	var again repeats
	var shown []byte
	show := func(line []byte) {
		s.tail.add(line)
		shown = append(append(append(shown, s.prefix...), line...), '\n')
	}
	emit := func(line []byte) { again.line(escape(line), show) }
	buffer := make([]byte, 64<<10)
	for {
		s.arm(lines.partial() || again.pending())
		n, err := s.from.Read(buffer)
		s.keep(buffer[:n])
		lines.write(buffer[:n], emit)
		if err != nil {
			lines.flush(emit)
		}
		if err != nil || again.due() {
			again.flush(show)
		}
		if len(shown) > 0 && s.screen != nil {
			s.screen.write(shown)
		}
		shown = shown[:0]
		if err != nil && (!errors.Is(err, os.ErrDeadlineExceeded) || s.over()) {
			return
		}
	}
}

// workerEnded bounds how long run still reads: a child that has escaped may hold the other end for ever.
func (s *stream) workerEnded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end = time.Now().Add(drainTimeout)
	s.from.SetReadDeadline(s.end)
}

// arm sets how long the next read may wait.
func (s *stream) arm(partial bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	deadline := s.end
	if soon := time.Now().Add(partialAfter); partial && (deadline.IsZero() || soon.Before(deadline)) {
		deadline = soon
	}
	s.from.SetReadDeadline(deadline)
}

// over says whether the time after the worker's end is over too.
func (s *stream) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.end.IsZero() && !time.Now().Before(s.end)
}

// keep writes to the log file. A file that cannot be written is given up with a warning: a full disk of logs does not end
// a run that trains.
func (s *stream) keep(data []byte) {
	if s.file == nil {
		return
	}
	if err := s.file.write(data); err != nil {
		s.log.Warn().Err(err).Msg("a worker's output is not filed any more")
	}
}

// insert writes text into the log file, as lines of their own, and on shown, if that is not nil. Meanwhile the worker may print.
func (s *stream) insert(text string, shown *screen) {
	s.keep([]byte("\n" + strings.TrimSuffix(text, "\n") + "\n"))
	if shown == nil {
		return
	}
	var lines []byte
	for line := range strings.Lines(text) {
		lines = append(append(append(lines, s.prefix...), escape([]byte(strings.TrimSuffix(line, "\n")))...), '\n')
	}
	shown.write(lines)
}

func (s *stream) close() {
	s.from.Close()
	if s.file != nil {
		s.file.close()
	}
}

// tail keeps the last lines of a worker's two outputs in order of arrival.
type tail struct {
	mu    sync.Mutex
	lines []string // a ring once it is full
	next  int
}

func (t *tail) add(line []byte) {
	if len(line) > tailLineBytes {
		line = line[:tailLineBytes]
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) < tailLines {
		t.lines = append(t.lines, string(line))
		return
	}
	t.lines[t.next] = string(line)
	t.next = (t.next + 1) % tailLines
}

// last returns the lines, oldest first.
func (t *tail) last() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append(append([]string{}, t.lines[t.next:]...), t.lines[:t.next]...)
}
