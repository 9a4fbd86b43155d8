package pipe

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Pair makes the two ends of a line: the agent's, and the worker's as a file to be inherited. Both are close-on-exec; the
// caller closes its copy of the worker's end once the worker has started, or the end of the worker is never seen.
func Pair() (agent net.Conn, worker *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("pipe: socketpair: %w", err)
	}
	worker = os.NewFile(uintptr(fds[1]), "worker's end of the pipe")
	agent, err = connFromFD(fds[0])
	if err != nil {
		worker.Close()
		return nil, nil, err
	}
	return agent, worker, nil
}

// connFromFD takes over fd, a connected socket.
func connFromFD(fd int) (net.Conn, error) {
	file := os.NewFile(uintptr(fd), "pipe")
	defer file.Close() // FileConn works on a copy, which is close-on-exec
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("pipe: descriptor %d: %w", fd, err)
	}
	return conn, nil
}

// line sends and receives messages over one connection.
type line struct {
	conn         net.Conn
	lines        *bufio.Scanner // used by the one goroutine that receives
	sendMu       sync.Mutex
	broken       error         // why nothing more can be sent; guarded by sendMu
	writeTimeout time.Duration // 0: a send may wait for as long as the other side does not read
}

func newLine(conn net.Conn, writeTimeout time.Duration) *line {
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 0, 4096), MaxMessageBytes)
	return &line{conn: conn, lines: lines, writeTimeout: writeTimeout}
}

// send writes one message. A failed write may have left half a message behind, so nothing is sent after it and the other
// side is shown the end; what it sent can still be received.
func (l *line) send(m message) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("pipe: encode message: %w", err)
	}
	data = append(data, '\n')
	if len(data) > MaxMessageBytes {
		return fmt.Errorf("pipe: message of %d bytes; at most %d are allowed", len(data), MaxMessageBytes)
	}
	l.sendMu.Lock()
	defer l.sendMu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	if l.writeTimeout > 0 {
		l.conn.SetWriteDeadline(time.Now().Add(l.writeTimeout))
	}
	if _, err := l.conn.Write(data); err != nil {
		l.broken = fmt.Errorf("%w (%v)", ErrLost, err)
		if half, ok := l.conn.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
	}
	return l.broken
}

// receive waits for the next message; io.EOF where the other side has closed its end or died.
func (l *line) receive() (message, error) {
	if !l.lines.Scan() {
		err := l.lines.Err()
		switch {
		case errors.Is(err, bufio.ErrTooLong):
			return message{}, fmt.Errorf("pipe: message of more than %d bytes", MaxMessageBytes)
		case err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, unix.ECONNRESET):
			return message{}, fmt.Errorf("pipe: receive: %w", err)
		}
		return message{}, io.EOF
	}
	var m message
	if err := json.Unmarshal(l.lines.Bytes(), &m); err != nil {
		return message{}, fmt.Errorf("pipe: malformed message: %w", err)
	}
	return m, nil
}
