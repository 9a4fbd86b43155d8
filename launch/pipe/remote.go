package pipe

import "context"

// Remote is the store in another agent: a Backend whose questions the function carries there and back. What waits does so there until ctx ends.
type Remote func(ctx context.Context, q Request) (Reply, error)

func (f Remote) ask(ctx context.Context, q Request) (Reply, error) {
	r, err := f(ctx, q)
	if err == nil {
		err = r.err(q)
	}
	return r, err
}

// Set implements Backend.
func (f Remote) Set(ctx context.Context, key string, value []byte) error {
	_, err := f.ask(ctx, Request{Op: opSet, Keys: []string{key}, Value: value})
	return err
}

// Get implements Backend.
func (f Remote) Get(ctx context.Context, key string) ([]byte, error) {
	r, err := f.ask(ctx, Request{Op: opGet, Keys: []string{key}})
	return r.Value, err
}

// Add implements Backend.
func (f Remote) Add(ctx context.Context, key string, delta int64) (int64, error) {
	r, err := f.ask(ctx, Request{Op: opAdd, Keys: []string{key}, Delta: delta})
	return r.Number, err
}

// Wait implements Backend.
func (f Remote) Wait(ctx context.Context, keys []string) error {
	_, err := f.ask(ctx, Request{Op: opWait, Keys: keys})
	return err
}

// Check implements Backend.
func (f Remote) Check(ctx context.Context, keys []string) (bool, error) {
	r, err := f.ask(ctx, Request{Op: opCheck, Keys: keys})
	return r.Flag, err
}

// Delete implements Backend.
func (f Remote) Delete(ctx context.Context, key string) (bool, error) {
	r, err := f.ask(ctx, Request{Op: opDelete, Keys: []string{key}})
	return r.Flag, err
}
