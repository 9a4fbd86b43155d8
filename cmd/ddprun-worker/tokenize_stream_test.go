package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func manyLines(n int) *lineReader {
	return newLineReader(strings.NewReader(strings.Repeat(strings.Repeat("x", 999)+"\n", n)), tokenizeOptions{})
}

// Chunks are encoded at once, and written in their order.
func TestStreamKeepsOrder(t *testing.T) {
	var out bytes.Buffer
	err := streamChunks(manyLines(5000), &out, func(c *chunk) ([]byte, error) {
		time.Sleep(rand.N(2 * time.Millisecond))
		var b []byte
		for i := range c.texts {
			b = fmt.Appendln(b, c.firstLine+i)
		}
		return b, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	for i := range 5000 {
		fmt.Fprintln(&want, i+1)
	}
	if !bytes.Equal(out.Bytes(), want.Bytes()) {
		t.Error("lines are missing or in another order")
	}
}

// The first error of the input's order is the one returned, and nothing after it is written.
func TestStreamStopsAtError(t *testing.T) {
	var out bytes.Buffer
	chunks := 0
	err := streamChunks(manyLines(5000), &out, func(c *chunk) ([]byte, error) {
		if c.firstLine > 1000 {
			return nil, fmt.Errorf("bad line %d", c.firstLine)
		}
		return []byte("."), nil
	})
	for reader := manyLines(5000); ; chunks++ {
		if c, _ := reader.next(); c.firstLine > 1000 {
			if want := fmt.Sprintf("bad line %d", c.firstLine); err == nil || err.Error() != want {
				t.Errorf("error %v, want %s", err, want)
			}
			break
		}
	}
	if out.Len() != chunks {
		t.Errorf("%d chunks written, want %d", out.Len(), chunks)
	}
}

func TestStreamWriteError(t *testing.T) {
	full := errors.New("disk full")
	err := streamChunks(manyLines(5000), failingWriter{full}, func(*chunk) ([]byte, error) { return []byte("."), nil })
	if !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// Whoever writes a line and waits gets its ids: nothing is held back until a chunk is full.
func TestStreamAnswersLineByLine(t *testing.T) {
	input, feed := io.Pipe()
	answers, out := io.Pipe()
	ended := make(chan error)
	go func() {
		err := streamChunks(newLineReader(input, tokenizeOptions{}), out, func(c *chunk) ([]byte, error) {
			return []byte(strings.Join(c.texts, "|") + "\n"), nil
		})
		ended <- err
	}()
	buf := make([]byte, 100)
	for i, write := range []string{"one\n", "two\nthr", "ee\n"} {
		if _, err := io.WriteString(feed, write); err != nil {
			t.Fatal(err)
		}
		n, err := answers.Read(buf)
		if want := []string{"one\n", "two\n", "three\n"}[i]; err != nil || string(buf[:n]) != want {
			t.Fatalf("answer %q, %v; want %q", buf[:n], err, want)
		}
	}
	feed.Close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
