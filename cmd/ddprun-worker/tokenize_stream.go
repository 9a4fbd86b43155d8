package main

import (
	"errors"
	"io"
	"runtime"
)

// encodedChunk is the place of a chunk in the output. done is closed when json and err are there.
type encodedChunk struct {
	done chan struct{}
	json []byte
	err  error
}

// streamChunks reads chunks, encodes some at once, and writes the results in the order of the input. It holds at most two
// chunks a processor. The first error ends it: what comes before it in the input has been written, and nothing after it.
func streamChunks(lines *lineReader, out io.Writer, encode func(*chunk) ([]byte, error)) error {
	queue := make(chan *encodedChunk, 2*runtime.GOMAXPROCS(0)-1)
	failed := make(chan struct{})
	finished := make(chan error)
	go func() { finished <- writeInOrder(queue, failed, out) }()

	readErr := feed(lines, queue, failed, encode)
	close(queue)
	if err := <-finished; err != nil {
		return err
	}
	return readErr
}

// feed starts the encoding of each chunk and queues it for the writer, until the input ends or the writer has failed.
func feed(lines *lineReader, queue chan<- *encodedChunk, failed <-chan struct{}, encode func(*chunk) ([]byte, error)) error {
	for {
		c, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		e := &encodedChunk{done: make(chan struct{})}
		select {
		case queue <- e:
		case <-failed:
			return nil
		}
		go func() {
			defer close(e.done)
			e.json, e.err = encode(c)
		}()
	}
}

// writeInOrder writes chunks as they come out of the queue, and takes all of them, so every encoder has ended when it
// returns. At the first error it closes failed and writes no more.
func writeInOrder(queue <-chan *encodedChunk, failed chan<- struct{}, out io.Writer) error {
	var first error
	for e := range queue {
		<-e.done
		if first != nil {
			continue
		}
		if first = e.err; first == nil {
			_, first = out.Write(e.json)
		}
		if first != nil {
			close(failed)
		}
	}
	return first
}
