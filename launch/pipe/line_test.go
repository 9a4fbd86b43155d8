package pipe

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestReceiveBoundsMessages(t *testing.T) {
	here, there := socketPair(t)
	go func() {
		there.Write(bytes.Repeat([]byte("x"), MaxMessageBytes+2))
		there.Close()
	}()
	if _, err := newLine(here, 0).receive(); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Fatalf("endless message: %v", err)
	}
}

func TestSendRefusesLongMessages(t *testing.T) {
	here, _ := socketPair(t)
	err := newLine(here, 0).send(message{Stop: &Stop{Reason: strings.Repeat("x", MaxMessageBytes)}})
	if err == nil || !strings.Contains(err.Error(), "at most") {
		t.Fatal(err)
	}
}

func TestSendToAReaderThatSleepsTimesOut(t *testing.T) {
	here, _ := socketPair(t)
	l := newLine(here, 50*time.Millisecond)
	long := message{Stop: &Stop{Reason: strings.Repeat("x", 1<<20)}}
	var err error
	for range 8 { // more than the socket's buffers hold
		if err = l.send(long); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrLost) {
		t.Fatalf("send to a reader that sleeps: %v", err)
	}
	if err := l.send(message{Stop: &Stop{}}); !errors.Is(err, ErrLost) {
		t.Fatalf("the line goes on after half a message: %v", err)
	}
}

// FuzzReceive: no input makes the reader panic or return anything but messages and then an error.
func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"hello":{"pid":1,"version":1,"program":"p"}}` + "\n"))
	f.Add([]byte("{}\n\n{\n"))
	f.Add([]byte(`{"request":{"id":1,"op":"get","keys":null,"timeout_ms":-9223372036854775808}}`))
	f.Add([]byte(`{"progress":{"step":1e400}}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		here, there := net.Pipe()
		go func() {
			there.Write(data)
			there.Close()
		}()
		a := NewAgent(here, Start{WorldSize: 1}, NewMemStore())
		select {
		case <-a.Ended():
		case <-time.After(10 * time.Second):
			t.Fatal("the agent's end hangs")
		}
	})
}

func TestReceiveEndsWithTheOtherSide(t *testing.T) {
	here, there := socketPair(t)
	there.Close()
	if _, err := newLine(here, 0).receive(); err != io.EOF {
		t.Fatal(err)
	}
}

// socketPair returns the two ends of a line, both as connections.
func socketPair(t *testing.T) (agent, worker net.Conn) {
	t.Helper()
	agent, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	worker, err = net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { agent.Close(); worker.Close() })
	return agent, worker
}
