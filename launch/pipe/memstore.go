package pipe

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// MemStore is a Backend in memory. Whoever waits for a key sleeps until it is set. It is safe for concurrent use.
type MemStore struct {
	mu      sync.Mutex
	values  map[string][]byte
	waiters map[string]*waiter
	closed  chan struct{}
}

// waiter is what those who wait for one key share.
type waiter struct {
	set   chan struct{} // closed when the key is set
	count int
}

// NewMemStore returns an empty store.
func NewMemStore() *MemStore {
	return &MemStore{values: map[string][]byte{}, waiters: map[string]*waiter{}, closed: make(chan struct{})}
}

// Close ends every wait, and whatever is asked later, with ErrStoreClosed.
func (s *MemStore) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
}

// Set implements Backend.
func (s *MemStore) Set(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return ErrStoreClosed
	}
	s.setLocked(key, append([]byte{}, value...))
	return nil
}

// Get implements Backend. It looks before it heeds the context, so a context that is over reads what is there.
func (s *MemStore) Get(ctx context.Context, key string) ([]byte, error) {
	for {
		value, wait, err := s.lookup(key)
		if err != nil || wait == nil {
			return value, err
		}
		if err := s.await(ctx, key, wait); err != nil {
			return nil, err
		}
	}
}

// Add implements Backend. The sum is kept as decimal text, as c10d's stores keep it.
func (s *MemStore) Add(_ context.Context, key string, delta int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return 0, ErrStoreClosed
	}
	var number int64
	if value, ok := s.values[key]; ok {
		var err error
		if number, err = strconv.ParseInt(string(value), 10, 64); err != nil {
			return 0, fmt.Errorf("store: add to %q: its value is no decimal number", key)
		}
	}
	number += delta
	s.setLocked(key, strconv.AppendInt(nil, number, 10))
	return number, nil
}

// Wait implements Backend.
func (s *MemStore) Wait(ctx context.Context, keys []string) error {
	for _, key := range keys {
		if _, err := s.Get(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// Check implements Backend.
func (s *MemStore) Check(_ context.Context, keys []string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return false, ErrStoreClosed
	}
	for _, key := range keys {
		if _, ok := s.values[key]; !ok {
			return false, nil
		}
	}
	return true, nil
}

// Delete implements Backend.
func (s *MemStore) Delete(_ context.Context, key string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return false, ErrStoreClosed
	}
	_, ok := s.values[key]
	delete(s.values, key)
	return ok, nil
}

// Drop removes every key with the given prefix: those of a generation that has ended.
func (s *MemStore) Drop(prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.values {
		if strings.HasPrefix(key, prefix) {
			delete(s.values, key)
		}
	}
}

// lookup returns the key's value, or the waiter to wait on, which await releases.
func (s *MemStore) lookup(key string) ([]byte, *waiter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return nil, nil, ErrStoreClosed
	}
	if value, ok := s.values[key]; ok {
		return append([]byte{}, value...), nil, nil
	}
	w := s.waiters[key]
	if w == nil {
		w = &waiter{set: make(chan struct{})}
		s.waiters[key] = w
	}
	w.count++
	return nil, w, nil
}

// await sleeps until w's key is set.
func (s *MemStore) await(ctx context.Context, key string, w *waiter) error {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if w.count--; w.count == 0 && s.waiters[key] == w {
			delete(s.waiters, key)
		}
	}()
	select {
	case <-w.set:
		return nil
	case <-s.closed:
		return ErrStoreClosed
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("%w waiting for key %q", ErrTimeout, key)
		}
		return ctx.Err()
	}
}

func (s *MemStore) setLocked(key string, value []byte) {
	s.values[key] = value
	if w := s.waiters[key]; w != nil {
		close(w.set)
		delete(s.waiters, key)
	}
}

func (s *MemStore) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// Prefix returns a view of b in which every key stands under prefix, so that generations never read each other's keys.
func Prefix(b Backend, prefix string) Backend {
	return prefixed{b, prefix}
}

type prefixed struct {
	b      Backend
	prefix string
}

func (p prefixed) Set(ctx context.Context, key string, value []byte) error {
	return p.b.Set(ctx, p.prefix+key, value)
}

func (p prefixed) Get(ctx context.Context, key string) ([]byte, error) {
	return p.b.Get(ctx, p.prefix+key)
}

func (p prefixed) Add(ctx context.Context, key string, delta int64) (int64, error) {
	return p.b.Add(ctx, p.prefix+key, delta)
}

func (p prefixed) Wait(ctx context.Context, keys []string) error {
	return p.b.Wait(ctx, p.keys(keys))
}

func (p prefixed) Check(ctx context.Context, keys []string) (bool, error) {
	return p.b.Check(ctx, p.keys(keys))
}

func (p prefixed) Delete(ctx context.Context, key string) (bool, error) {
	return p.b.Delete(ctx, p.prefix+key)
}

func (p prefixed) keys(keys []string) []string {
	full := make([]string, len(keys))
	for i, key := range keys {
		full[i] = p.prefix + key
	}
	return full
}
