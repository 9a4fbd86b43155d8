package ddp

import (
	"errors"
	"net"
	"net/rpc"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// StoreCall is a store's operation with its argument, as it goes over the socket.
type StoreCall struct {
	Key     string
	Keys    []string
	Value   []byte
	Delta   int64
	Timeout time.Duration
}

// StoreAnswer is its result.
type StoreAnswer struct {
	Value []byte
	Sum   int64
	Found bool
}

// StoreService serves a mapStore to the ranks' processes by net/rpc, which wants exported names.
type StoreService struct{ store *mapStore }

func (s StoreService) Set(c StoreCall, _ *StoreAnswer) error { return s.store.Set(c.Key, c.Value) }

func (s StoreService) Get(c StoreCall, a *StoreAnswer) (err error) {
	a.Value, err = s.store.Get(c.Key, c.Timeout)
	return err
}

func (s StoreService) Add(c StoreCall, a *StoreAnswer) (err error) {
	a.Sum, err = s.store.Add(c.Key, c.Delta)
	return err
}

func (s StoreService) Check(c StoreCall, a *StoreAnswer) (err error) {
	a.Found, err = s.store.Check(c.Keys)
	return err
}

func (s StoreService) Delete(c StoreCall, a *StoreAnswer) (err error) {
	a.Found, err = s.store.Delete(c.Key)
	return err
}

// serveStore serves a new store until the test ends and returns its socket.
func serveStore(t *testing.T) string {
	t.Helper()
	server := rpc.NewServer()
	if err := server.Register(StoreService{newMapStore()}); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "store")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			go server.ServeConn(conn)
		}
	}()
	return socket
}

// rpcStore is a rank's end of it.
type rpcStore struct{ client *rpc.Client }

func (s rpcStore) call(op string, c StoreCall) (a StoreAnswer, err error) {
	err = s.client.Call("StoreService."+op, c, &a)
	return a, err
}

func (s rpcStore) Set(key string, value []byte) error {
	_, err := s.call("Set", StoreCall{Key: key, Value: value})
	return err
}

func (s rpcStore) Get(key string, timeout time.Duration) ([]byte, error) {
	a, err := s.call("Get", StoreCall{Key: key, Timeout: timeout})
	return a.Value, err
}

func (s rpcStore) Add(key string, delta int64) (int64, error) {
	a, err := s.call("Add", StoreCall{Key: key, Delta: delta})
	return a.Sum, err
}

func (s rpcStore) Check(keys []string) (bool, error) {
	a, err := s.call("Check", StoreCall{Keys: keys})
	return a.Found, err
}

func (s rpcStore) Delete(key string) (bool, error) {
	a, err := s.call("Delete", StoreCall{Key: key})
	return a.Found, err
}

// mapStore is a store in memory: Get waits until the key is set.
type mapStore struct {
	mu      sync.Mutex
	values  map[string][]byte
	changed chan struct{} // closed and replaced by every Set
}

func newMapStore() *mapStore {
	return &mapStore{values: map[string][]byte{}, changed: make(chan struct{})}
}

func (s *mapStore) Set(key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(key, value)
	return nil
}

func (s *mapStore) set(key string, value []byte) {
	s.values[key] = value
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *mapStore) Get(key string, timeout time.Duration) ([]byte, error) {
	expired := time.After(timeout)
	for {
		s.mu.Lock()
		value, found := s.values[key]
		changed := s.changed
		s.mu.Unlock()
		if found {
			return value, nil
		}
		select {
		case <-changed:
		case <-expired:
			return nil, errors.New("timeout waiting for " + key)
		}
	}
}

func (s *mapStore) Add(key string, delta int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, _ := strconv.ParseInt(string(s.values[key]), 10, 64)
	n += delta
	s.set(key, []byte(strconv.FormatInt(n, 10)))
	return n, nil
}

func (s *mapStore) Check(keys []string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		if _, found := s.values[key]; !found {
			return false, nil
		}
	}
	return true, nil
}

func (s *mapStore) Delete(key string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, found := s.values[key]
	delete(s.values, key)
	return found, nil
}
