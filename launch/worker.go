package launch

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/ddprun/ddprun/launch/pipe"
)

// workerPipeFD is the descriptor of the worker's end of the pipe.
const workerPipeFD = 3

// lastWords bounds how long a worker's pipe is still read after its end.
const lastWords = time.Second

// worker is one worker process.
type worker struct {
	start   pipe.Start
	process *os.Process
	agent   *pipe.Agent
	tail    *tail
	streams []*stream
	drained chan struct{} // closed when all its output is filed and shown

	mu    sync.Mutex
	ended bool // the process has ended, so its number may soon be another's

	fault *fault // what the watch has found; nil: nothing

	// Set by wait.
	state  *os.ProcessState
	exitAt time.Time
	report pipe.Report
}

// outlet says where a worker's output goes.
type outlet struct {
	stdout, stderr *screen // nil: not shown
	dir            string  // for log files; empty: none
	maxLog         int64   // bytes of each; 0: no limit
	log            zerolog.Logger
}

// startWorker starts a worker. Everything it opened is closed again on failure.
func startWorker(s *spawner, argv, env []string, start pipe.Start, store pipe.Backend, out outlet) (*worker, error) {
	w := &worker{start: start, tail: &tail{}, drained: make(chan struct{})}
	conn, theirPipe, err := pipe.Pair()
	if err != nil {
		return nil, err
	}
	theirs := []*os.File{nil, nil, nil, theirPipe} // the worker's descriptors 0 to 3
	defer func() { closeFiles(theirs) }()
	if theirs[0], err = os.Open(os.DevNull); err == nil {
		theirs[1], err = w.addStream(out, out.stdout, "stdout.log")
	}
	if err == nil {
		theirs[2], err = w.addStream(out, out.stderr, "stderr.log")
	}
	if err == nil {
		w.process, err = s.start(argv, &os.ProcAttr{
			Env:   env,
			Files: theirs,
			Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
		})
	}
	if err != nil {
		w.abandon(conn)
		return nil, fmt.Errorf("launch: start worker %d: %w", start.Rank, err)
	}
	w.agent = pipe.NewAgent(conn, start, store)
	go w.carry()
	return w, nil
}

// addStream opens one output and returns the end for the worker.
func (w *worker) addStream(out outlet, shown *screen, name string) (*os.File, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s := &stream{from: read, screen: shown, tail: w.tail, prefix: fmt.Sprintf("[rank %d] ", w.start.Rank), log: out.log}
	w.streams = append(w.streams, s)
	if out.dir != "" {
		if s.file, err = createLog(filepath.Join(out.dir, name), out.maxLog); err != nil {
			return write, err
		}
	}
	return write, nil
}

// abandon closes what a worker that did not start has left.
func (w *worker) abandon(conn net.Conn) {
	conn.Close()
	for _, s := range w.streams {
		s.close()
	}
}

// carry runs the worker's streams.
func (w *worker) carry() {
	defer close(w.drained)
	done := make(chan struct{})
	for _, s := range w.streams {
		go func() {
			s.run()
			done <- struct{}{}
		}()
	}
	for range w.streams {
		<-done
	}
}

// wait waits for the worker's end, kills what it has left behind, and takes its last words.
func (w *worker) wait(s *spawner, mark string) error {
	state, err := s.wait(w.process, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.exitAt, w.ended = time.Now(), true
		syscall.Kill(-w.process.Pid, syscall.SIGKILL)
	})
	for _, stream := range w.streams {
		stream.workerEnded()
	}
	killMarked(rankMark(mark, w.start.Rank))
	select {
	case <-w.agent.Ended():
	case <-time.After(lastWords):
	}
	w.agent.Close()
	w.state, w.report = state, w.agent.Report()
	return err
}

// awaitOutput waits until the output of a worker that has ended is filed and shown; not for ever, since the screen may
// be stuck (a pager).
func (w *worker) awaitOutput() {
	select {
	case <-w.drained:
	case <-time.After(drainTimeout + time.Second):
	}
}

// kill ends the worker and its process group at once, stopped or not.
func (w *worker) kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		syscall.Kill(-w.process.Pid, syscall.SIGKILL)
	}
}

// gone says whether the process has ended.
func (w *worker) gone() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended
}

// signal sends the process alone a signal.
func (w *worker) signal(s syscall.Signal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		syscall.Kill(w.process.Pid, s)
	}
}

// insert writes lines into the worker's stderr.log, as if it had printed them, and on shown, if that is not nil.
func (w *worker) insert(text string, shown *screen) {
	w.streams[1].insert(text, shown)
}

func closeFiles(files []*os.File) {
	for _, file := range files {
		if file != nil {
			file.Close()
		}
	}
}
