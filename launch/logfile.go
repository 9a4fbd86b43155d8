package launch

import (
	"bytes"
	"os"
	"sync"
)

// logFile is a log that begins anew when it has grown to a size; what it was before lies beside it, under its name with .1, and what that was is
// gone. So a log takes at most twice the size. It is safe for concurrent use.
type logFile struct {
	path string
	max  int64 // bytes; 0: it is never begun anew

	mu    sync.Mutex
	file  *os.File // nil: closed, or given up
	size  int64
	begun bool // its last line has no end yet
}

// createLog creates the file at path. An earlier one is overwritten.
func createLog(path string, max int64) (*logFile, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &logFile{path: path, max: max, file: f}, nil
}

// write appends data. A line stays in one file unless it is longer than a log may be. After an error the log is given up: later writes are
// dropped.
func (l *logFile) write(data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.file != nil && len(data) > 0 {
		part := data
		if room := l.max - l.size; l.max > 0 && int64(len(data)) > room {
			part = data[:l.cut(data, room)]
		}
		n, err := l.file.Write(part)
		if l.size += int64(n); n > 0 {
			l.begun = part[n-1] != '\n'
		}
		if data = data[len(part):]; err == nil && len(data) > 0 {
			err = l.rotate()
		}
		if err != nil {
			l.file.Close()
			l.file = nil
			return err
		}
	}
	return nil
}

// cut returns how much of data, which does not fit, still goes into the file, which has room for so much: whole lines, if only the one that was
// begun in it.
func (l *logFile) cut(data []byte, room int64) int {
	room = max(0, room)
	if end := bytes.LastIndexByte(data[:room], '\n'); end >= 0 {
		return end + 1
	}
	switch {
	case l.size == 0:
		return int(room) // a line longer than a log
	case !l.begun:
		return 0
	}
	return bytes.IndexByte(data, '\n') + 1
}

// rotate begins the file anew.
func (l *logFile) rotate() error {
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		return err
	}
	f, err := os.Create(l.path)
	if err != nil {
		return err
	}
	l.file.Close()
	l.file, l.size, l.begun = f, 0, false
	return nil
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}
