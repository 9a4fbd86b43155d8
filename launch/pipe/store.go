package pipe

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Store errors.
var (
	// ErrTimeout: a key was not set within the time given.
	ErrTimeout = errors.New("store: timed out")
	// ErrStoreClosed: the store's generation has ended.
	ErrStoreClosed = errors.New("store: closed")
	// ErrLost: the other end of the pipe is gone.
	ErrLost = errors.New("pipe: the other end is gone")
)

// Store is the key-value store through which ranks meet, as a worker sees it, with the semantics of c10d::Store. All
// methods are safe for concurrent use. Values are copied. A timeout of 0 or less looks once.
type Store interface {
	Set(key string, value []byte) error
	// Get returns the value of key, waiting for it to be set; ErrTimeout after timeout.
	Get(key string, timeout time.Duration) ([]byte, error)
	// Add adds delta to the decimal number stored under key (0 if none) and returns the sum, which Get reads as decimal text.
	Add(key string, delta int64) (int64, error)
	// Wait returns once all keys are set; ErrTimeout after timeout.
	Wait(keys []string, timeout time.Duration) error
	// Check says whether all keys are set.
	Check(keys []string) (bool, error)
	// Delete removes key and says whether it was set.
	Delete(key string) (bool, error)
}

// Backend is the same store as an agent sees it: what waits ends with its context, so that a worker's death ends its
// requests.
type Backend interface {
	Set(ctx context.Context, key string, value []byte) error
	Get(ctx context.Context, key string) ([]byte, error)
	Add(ctx context.Context, key string, delta int64) (int64, error)
	Wait(ctx context.Context, keys []string) error
	Check(ctx context.Context, keys []string) (bool, error)
	Delete(ctx context.Context, key string) (bool, error)
}

// op names a request to the store.
type op string

const (
	opSet    op = "set"
	opGet    op = "get"
	opAdd    op = "add"
	opWait   op = "wait"
	opCheck  op = "check"
	opDelete op = "delete"
)

// Request asks the store in the agent; the reply carries the same ID.
type Request struct {
	ID        uint64   `json:"id"`
	Op        op       `json:"op"`
	Keys      []string `json:"keys"`
	Value     []byte   `json:"value,omitempty"` // base64 in JSON
	Delta     int64    `json:"delta,omitempty"`
	TimeoutMS int64    `json:"timeout_ms,omitempty"` // of get and wait
}

// Reply answers a Request. Error is empty on success.
type Reply struct {
	ID      uint64 `json:"id"`
	Value   []byte `json:"value,omitempty"`
	Number  int64  `json:"number,omitempty"`
	Flag    bool   `json:"flag,omitempty"`
	Error   string `json:"error,omitempty"`
	Timeout bool   `json:"timeout,omitempty"` // the error is ErrTimeout
}

// Answer puts a question to the store, here or, between agents, there. One that waits does so until ctx ends.
func Answer(ctx context.Context, store Backend, q Request) *Reply {
	r := &Reply{ID: q.ID}
	var err error
	switch {
	case len(q.Keys) != 1 && q.Op != opWait && q.Op != opCheck:
		err = fmt.Errorf("store: %s takes one key, not %d", q.Op, len(q.Keys))
	case q.Op == opSet:
		err = store.Set(ctx, q.Keys[0], q.Value)
	case q.Op == opGet:
		r.Value, err = store.Get(ctx, q.Keys[0])
	case q.Op == opAdd:
		r.Number, err = store.Add(ctx, q.Keys[0], q.Delta)
	case q.Op == opWait:
		err = store.Wait(ctx, q.Keys)
	case q.Op == opCheck:
		r.Flag, err = store.Check(ctx, q.Keys)
	case q.Op == opDelete:
		r.Flag, err = store.Delete(ctx, q.Keys[0])
	default:
		err = fmt.Errorf("store: unknown operation %q", q.Op)
	}
	if err != nil {
		r.Error, r.Timeout = err.Error(), errors.Is(err, ErrTimeout)
	}
	return r
}
