package mesh

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// protocol is raised by a change that the other side must know of. Fields that one side does not know are ignored.
const protocol = 1

// MaxMessageBytes bounds one line, so what Send and Call can carry.
const MaxMessageBytes = 8 << 20

// maxHelloBytes bounds a line of a peer that has not been admitted.
const maxHelloBytes = 64 << 10

// maxFrameBytes leaves room for what stands around a message of MaxMessageBytes.
const maxFrameBytes = MaxMessageBytes + 4096

// frame is one line between two agents. Exactly one field is set.
type frame struct {
	Hello   *hello `json:"hello,omitempty"`
	Ready   *ready `json:"ready,omitempty"`
	Refused string `json:"refused,omitempty"` // why; the sender closes the connection next

	Message json.RawMessage `json:"message,omitempty"`
	Call    *call           `json:"call,omitempty"`
	Answer  *answer         `json:"answer,omitempty"`
	Cancel  uint64          `json:"cancel,omitempty"` // nobody waits for the answer to this call any more
	Beat    bool            `json:"beat,omitempty"`   // the sender lives
	Bye     bool            `json:"bye,omitempty"`    // the sender leaves in order, and has said all
}

// hello is the first line each way: of the agent that dials, then of the one that answers.
type hello struct {
	Protocol int             `json:"protocol"`
	ID       string          `json:"id"`
	RunID    string          `json:"run_id"`
	Addr     string          `json:"address"` // host:port at which others reach the sender
	Downs    uint64          `json:"downs"`   // of the one that answers: how often it has given up the other one
	Hello    json.RawMessage `json:"hello,omitempty"`
}

// ready ends the greeting: the agent that has dialled admits the one that has answered.
type ready struct {
	Downs uint64 `json:"downs"` // as in hello; who dials does not know yet to whom it speaks
}

type call struct {
	ID   uint64          `json:"id"`
	Body json.RawMessage `json:"body,omitempty"`
}

type answer struct {
	ID    uint64          `json:"id"`
	Body  json.RawMessage `json:"body,omitempty"`
	Error string          `json:"error,omitempty"`
}

// beatLine is the most frequent line by far, so it is neither encoded nor decoded.
var beatLine = []byte(`{"beat":true}` + "\n")

// encode returns f as a line.
func encode(f frame) ([]byte, error) {
	data, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("mesh: encode message: %w", err)
	}
	if len(data) >= maxFrameBytes {
		return nil, fmt.Errorf("mesh: message of %d bytes; at most %d are allowed", len(data), MaxMessageBytes)
	}
	return append(data, '\n'), nil
}

// lineReader cuts a stream into frames. It holds no more memory between two lines than its small buffer.
type lineReader struct {
	buffer *bufio.Reader
	limit  int
}

func newLineReader(r io.Reader, limit int) *lineReader {
	return &lineReader{buffer: bufio.NewReader(r), limit: limit}
}

// next waits for the next frame; io.EOF where the stream ends between two lines.
func (r *lineReader) next() (frame, error) {
	line, err := r.line()
	if err != nil {
		return frame{}, err
	}
	if bytes.Equal(line, beatLine) {
		return frame{Beat: true}, nil
	}
	var f frame
	if err := json.Unmarshal(line, &f); err != nil {
		return frame{}, fmt.Errorf("malformed message: %w", err)
	}
	return f, nil
}

// line returns the next line, valid until the next call.
func (r *lineReader) line() ([]byte, error) {
	line, err := r.buffer.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		if err == io.EOF && len(line) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return line, err
	}
	long := bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = r.buffer.ReadSlice('\n')
		if len(long)+len(line) > r.limit {
			return nil, fmt.Errorf("message of more than %d bytes", r.limit)
		}
		long = append(long, line...)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return long, err
}
