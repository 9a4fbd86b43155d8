package nccl

import (
	"errors"
	"testing"
	"time"
)

// A collective of a non-blocking communicator is launched after its call: until Await has returned, the next call is refused and the stream
// is empty.
func TestInProgress(t *testing.T) {
	t.Setenv("LOOPBACK_LAUNCH_US", "100000")
	open := descriptors()
	p := join(must(must(Open()).NewUniqueID()), 0, 1)
	check(p.comm.Await(patience))
	v, at := buffer[float32](p, 1)
	v[0] = 3
	if err := p.comm.AllReduce(at, at, 1, Float32, Sum, Stream(p.stream)); err != ErrInProgress {
		t.Fatalf("all-reduce: %v", err)
	}
	if err := p.comm.AsyncError(); err != ErrInProgress {
		t.Errorf("state: %v", err)
	}
	if err := p.comm.AllReduce(at, at, 1, Float32, Sum, Stream(p.stream)); !errors.Is(err, ErrArgument) {
		t.Errorf("a second call: %v", err)
	}
	if err := p.comm.Await(time.Millisecond); !errors.Is(err, ErrTimeout) {
		t.Errorf("await: %v", err)
	}
	if done, err := p.cuda.StreamDone(p.stream); !done || err != nil {
		t.Errorf("the stream has something on it: %v", err)
	}
	p.do(p.comm.Await(patience))
	check(p.cuda.Free(at))
	p.close()
	if now := descriptors(); now != open {
		t.Errorf("%d descriptors of the double are open, before there were %d", now, open)
	}
	if err := p.comm.Abort(); err != ErrClosed {
		t.Errorf("after the end: %v", err)
	}
}
