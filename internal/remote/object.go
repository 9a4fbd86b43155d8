package remote

import (
	"context"
	"errors"
	"io"
	"time"
)

// object is an opened source.
type object struct {
	ctx     context.Context
	store   *Store
	name    string
	backend backend
	version version

	offset int64 // of the next byte that Read returns
	stream io.ReadCloser
	cancel context.CancelFunc
	failed error
}

func (o *object) Size() int64 { return o.version.bytes }

// Read goes on by a new request where a connection breaks or stands still.
func (o *object) Read(p []byte) (n int, err error) {
	if o.failed != nil {
		return 0, o.failed
	}
	if o.offset >= o.version.bytes {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	p = p[:min(int64(len(p)), o.version.bytes-o.offset)]
	err = o.store.retry(o.ctx, o.name, func(int) (int, error) {
		n, err = o.readOnce(p)
		if err != nil {
			o.drop()
		}
		if n > 0 {
			return n, nil
		}
		return 0, err
	})
	o.offset += int64(n)
	o.failed = err
	return n, err
}

func (o *object) readOnce(p []byte) (n int, err error) {
	if o.stream == nil {
		var ctx context.Context
		ctx, o.cancel = context.WithCancel(o.ctx)
		watch := time.AfterFunc(o.store.stall, o.cancel)
		o.stream, err = o.backend.open(ctx, o.version, o.offset, -1)
		if !watch.Stop() {
			err = errors.Join(errStalled, err)
		}
		if err != nil {
			return 0, err
		}
	}
	watch := time.AfterFunc(o.store.stall, o.cancel)
	n, err = o.stream.Read(p)
	switch {
	case !watch.Stop() && n == 0:
		return 0, errStalled
	case n > 0:
		return n, err
	case err == nil:
		return 0, io.ErrNoProgress
	case err == io.EOF:
		return 0, errEnded
	}
	return 0, err
}

// drop ends the request under way.
func (o *object) drop() {
	if o.cancel != nil {
		o.cancel()
	}
	if o.stream != nil {
		o.stream.Close()
	}
	o.stream, o.cancel = nil, nil
}

func (o *object) Close() error {
	o.drop()
	o.failed = errors.New("remote: " + o.name + " is closed")
	return nil
}

// ReadAt asks for one range.
func (o *object) ReadAt(p []byte, at int64) (n int, err error) {
	if at >= o.version.bytes {
		return 0, io.EOF
	}
	want := int(min(int64(len(p)), o.version.bytes-at))
	for n < want && err == nil {
		err = o.store.retry(o.ctx, o.name, func(int) (int, error) {
			part := &object{ctx: o.ctx, store: o.store, name: o.name, backend: ranged{o.backend, int64(want - n)}, version: o.version, offset: at + int64(n)}
			defer part.drop()
			got := 0
			for n < want {
				m, err := part.readOnce(p[n:want])
				n, got, part.offset = n+m, got+m, part.offset+int64(m)
				if err != nil && n < want {
					if got > 0 {
						return got, nil // the loop around asks for the rest
					}
					return 0, err
				}
			}
			return got, nil
		})
	}
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// ranged opens no more than length bytes.
type ranged struct {
	backend
	length int64
}

func (r ranged) open(ctx context.Context, v version, offset, _ int64) (io.ReadCloser, error) {
	return r.backend.open(ctx, v, offset, r.length)
}
