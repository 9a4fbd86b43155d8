package ddp

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/ddprun/ddprun/internal/torch"
	"github.com/ddprun/ddprun/nccl"
	"github.com/ddprun/ddprun/nccl/cuda"
)

// ErrLate is what the errors of collectives are that did not end within the time-out.
var ErrLate = errors.New("a collective did not end in time")

// NCCLConfig are the settings of a group on NCCL.
type NCCLConfig struct {
	Timeout time.Duration // bounds the meeting, and every collective from when those before it have ended
	Device  int           // this rank's GPU
	Dump    string        // the file that gets the record of the last collectives where one fails; empty: none
}

// NewNCCL returns the group of size ranks that meet in store, on libnccl. It blocks until all are there.
//
// Collectives run on a stream of their own, after what the compute stream has been given before them, and Wait makes the compute stream
// wait for them, not the caller. With the loopback library (package nccl/loopback) tensors are the host's, whose work is done when it is
// called, so there the caller waits. A watchdog sees what fails or does not end, compares the ranks' records of it, aborts
// the communicator, and every collective from then on returns its error.
func NewNCCL(store torch.Store, rank, size int, config NCCLConfig) (Group, error) {
	g := &ncclGroup{rank: rank, size: size, config: config, store: store, failed: make(chan struct{}), closing: make(chan struct{}), watched: make(chan struct{})}
	if err := g.join(); err != nil {
		g.free()
		return nil, fmt.Errorf("rank %d of %d: cannot form the NCCL communicator: %w", rank, size, err)
	}
	go g.watch()
	return g, nil
}

// NCCLUse is what NCCL is wanted for.
type NCCLUse int

// What ranks have: tensors in the host's memory, which only the loopback library moves; a GPU each; or a GPU that another rank has too.
const (
	OnHost NCCLUse = iota
	OnGPUs
	OnSharedGPUs
)

// sharingVersion is the first NCCL that lets ranks of one communicator share a GPU.
const sharingVersion = 23007

// CheckNCCL tells why NCCL cannot be used: libnccl or the CUDA runtime is missing, too old, or for something else.
func CheckNCCL(use NCCLUse) error {
	lib, err := nccl.Open()
	if err != nil {
		return err
	}
	if _, err := cuda.Open(); err != nil {
		return err
	}
	which := fmt.Sprintf("NCCL %s (%s)", lib.VersionString(), lib.Path())
	switch {
	case use == OnHost && !lib.Loopback():
		return fmt.Errorf("%s moves data between GPUs, and the ranks are on the CPU", which)
	case use != OnHost && lib.Loopback():
		return fmt.Errorf("%s is the loopback library, a test double that works in the host's memory: unset NCCL_LIBRARY", which)
	case use == OnSharedGPUs && lib.Version() < sharingVersion:
		return fmt.Errorf("%s gives each rank a GPU of its own: install a newer one for ranks that share one (pip install nvidia-nccl-cu13>=2.30.7) and name it in NCCL_LIBRARY", which)
	}
	return nil
}

type ncclGroup struct {
	rank, size int
	config     NCCLConfig
	store      torch.Store
	lib        *nccl.Library
	cuda       *cuda.Runtime
	comm       *nccl.Comm
	stream     cuda.Stream // of the collectives
	compute    cuda.Stream // whose work they follow, where host is false; libtorch's default stream
	host       bool        // tensors are in the host's memory

	record flight

	issuing sync.Mutex // one collective is started at a time

	mu       sync.Mutex
	pending  []*ncclWork // started and not known to have ended, the oldest first
	moved    time.Time   // when one ended last
	events   []cuda.Event
	broken   bool       // an abort empties the stream too, so nothing that ends from now on is done
	computed cuda.Event // the place that the compute stream has come to

	fails   sync.Once
	failed  chan struct{} // closed when the communicator is aborted; err says why
	err     error
	closing chan struct{}
	watched chan struct{} // closed when the watchdog has ended
	closed  sync.Once
}

// join opens the libraries and meets the other ranks.
func (g *ncclGroup) join() (err error) {
	if g.lib, err = nccl.Open(); err != nil {
		return err
	}
	if g.cuda, err = cuda.Open(); err != nil {
		return err
	}
	g.host = g.lib.Loopback()
	return g.onDevice(func() error {
		if g.stream, err = g.cuda.NewStream(true); err != nil {
			return err
		}
		if g.computed, err = g.cuda.NewEvent(false); err != nil {
			return err
		}
		deadline := time.Now().Add(g.config.Timeout)
		id, err := g.uniqueID()
		if err != nil {
			return err
		}
		if err := g.store.Set(joinKey(g.rank), nil); err != nil {
			return err
		}
		if g.comm, err = g.lib.NewComm(id, g.rank, g.size, nccl.Config{}); err != nil {
			return err
		}
		if err := g.comm.Await(time.Until(deadline)); err != nil {
			return g.missing(err)
		}
		return nil
	})
}

func joinKey(rank int) string { return fmt.Sprint("join/", rank) }

// uniqueID is rank 0's, which the others get through the store.
func (g *ncclGroup) uniqueID() (id nccl.UniqueID, err error) {
	const key = "id"
	if g.rank == 0 {
		if id, err = g.lib.NewUniqueID(); err != nil {
			return id, err
		}
		return id, g.store.Set(key, id[:])
	}
	raw, err := g.store.Get(key, g.config.Timeout)
	if err != nil {
		return id, fmt.Errorf("rank 0 did not come: %w", err)
	}
	if copy(id[:], raw) != len(id) {
		return id, fmt.Errorf("rank 0 sent a unique id of %d bytes", len(raw))
	}
	return id, nil
}

// missing adds to why the ranks did not meet which of them did not come.
func (g *ncclGroup) missing(err error) error {
	var absent []string
	for rank := range g.size {
		if here, e := g.store.Check([]string{joinKey(rank)}); e == nil && !here {
			absent = append(absent, fmt.Sprint(rank))
		}
	}
	if len(absent) > 0 {
		return fmt.Errorf("%s not come: %w", have(absent), err)
	}
	return fmt.Errorf("all ranks have come, so it is the network or the GPUs between them (NCCL_DEBUG=INFO tells more): %w", err)
}

// onDevice runs f on an OS thread whose device is this rank's.
func (g *ncclGroup) onDevice(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := g.cuda.SetDevice(g.config.Device); err != nil {
		return err
	}
	return f()
}

func (g *ncclGroup) Rank() int { return g.rank }
func (g *ncclGroup) Size() int { return g.size }

// ncclTypes are the element types that both libraries know.
var ncclTypes = map[torch.DType]nccl.DataType{torch.Int32: nccl.Int32, torch.Int64: nccl.Int64, torch.Float32: nccl.Float32,
	torch.Float64: nccl.Float64, torch.Float16: nccl.Float16, torch.BFloat16: nccl.Bfloat16}

func (g *ncclGroup) AllReduce(t torch.Tensor) (Work, error) { return g.allReduceBucket(t, noBucket) }

// allReduceBucket is AllReduce of a bucket of gradients, so that an error can name it.
func (g *ncclGroup) allReduceBucket(t torch.Tensor, bucket int) (Work, error) {
	return g.start(flightEntry{Op: "all-reduce", Bucket: bucket}, t, func(at uintptr, n int, dtype nccl.DataType) error {
		return g.comm.AllReduce(at, at, n, dtype, nccl.Sum, nccl.Stream(g.stream))
	})
}

func (g *ncclGroup) mark(what string) { g.record.mark(what) }

func (g *ncclGroup) Broadcast(t torch.Tensor, root int) (Work, error) {
	return g.start(flightEntry{Op: "broadcast", Root: root, Bucket: noBucket}, t, func(at uintptr, n int, dtype nccl.DataType) error {
		return g.comm.Broadcast(at, at, n, dtype, root, nccl.Stream(g.stream))
	})
}

func (g *ncclGroup) AllGather(t, out torch.Tensor) (Work, error) {
	if out.Numel() != t.Numel()*int64(g.size) || out.DType() != t.DType() {
		return nil, fmt.Errorf("all-gather of %d elements of dtype %d on %d ranks into %d of dtype %d", t.Numel(), t.DType(), g.size, out.Numel(), out.DType())
	}
	return g.start(flightEntry{Op: "all-gather", Bucket: noBucket}, t, func(at uintptr, n int, dtype nccl.DataType) error {
		return g.comm.AllGather(at, out.Address(), n, dtype, nccl.Stream(g.stream))
	})
}

// ncclWork is a collective under way.
type ncclWork struct {
	g     *ncclGroup
	seq   int64
	event cuda.Event // behind it on the stream; the group's again once ended
	began time.Time
	ended bool
}

// start puts a collective on the stream.
func (g *ncclGroup) start(e flightEntry, t torch.Tensor, call func(at uintptr, n int, dtype nccl.DataType) error) (Work, error) {
	dtype, ok := ncclTypes[t.DType()]
	if !ok {
		return nil, fmt.Errorf("%s of dtype %d", e.Op, t.DType())
	}
	e.Count, e.Type = t.Numel(), t.DType().String()
	g.issuing.Lock()
	defer g.issuing.Unlock()
	if err := g.failure(); err != nil {
		return nil, err
	}
	w := &ncclWork{g: g, began: time.Now()}
	if e.Count == 0 {
		w.ended = true
		return w, nil
	}
	err := g.onDevice(func() (err error) {
		if w.event, err = g.event(); err != nil {
			return err
		}
		if !g.host {
			if err := g.cuda.Record(g.computed, g.compute); err != nil {
				return err
			}
			if err := g.cuda.StreamWait(g.stream, g.computed); err != nil {
				return err
			}
		}
		w.seq = g.record.issue(e, w.began)
		if err = call(t.Address(), int(e.Count), dtype); err == nccl.ErrInProgress {
			err = g.comm.Await(g.config.Timeout)
		}
		if err != nil {
			return err
		}
		return g.cuda.Record(w.event, g.stream)
	})
	if err != nil {
		g.fail(fmt.Errorf("%s: %w", e.Op, err), errors.Is(err, nccl.ErrTimeout))
		return nil, g.err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pending = append(g.pending, w)
	return w, nil
}

// event returns one that nobody uses.
func (g *ncclGroup) event() (cuda.Event, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.events); n > 0 {
		e := g.events[n-1]
		g.events = g.events[:n-1]
		return e, nil
	}
	return g.cuda.NewEvent(false)
}

// settle takes note of the collectives that have ended.
func (g *ncclGroup) settle() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.pending) > 0 && !g.broken {
		w := g.pending[0]
		done, err := g.cuda.EventDone(w.event)
		if err != nil || !done {
			return err
		}
		w.ended, g.moved = true, time.Now()
		g.record.end(w.seq, g.moved)
		g.events = append(g.events, w.event)
		g.pending = g.pending[1:]
	}
	return nil
}

// Wait makes the compute stream wait for the collective, or the caller where the tensors are the host's.
func (w *ncclWork) Wait() error {
	g := w.g
	for pause := 10 * time.Microsecond; ; pause = min(2*pause, 500*time.Microsecond) {
		if err := g.failure(); err != nil {
			return err
		}
		if err := g.settle(); err != nil {
			g.fail(err, false)
			return g.err
		}
		waits, err := g.follow(w)
		if err != nil {
			g.fail(err, false)
			return g.err
		}
		if !waits {
			return nil
		}
		time.Sleep(pause)
	}
}

// follow makes the compute stream wait for w; or tells whether the caller has to.
func (g *ncclGroup) follow(w *ncclWork) (waits bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.ended || g.host {
		return !w.ended, nil
	}
	return false, g.cuda.StreamWait(g.compute, w.event)
}

// Failed returns why a group has failed whose collectives nobody waits for: what a GPU has computed since is not to be trusted. It waits while that is being found out; nil: all is well
// so far.
func Failed(g Group) error {
	n, ok := g.(*ncclGroup)
	if !ok {
		return nil
	}
	n.mu.Lock()
	broken := n.broken
	n.mu.Unlock()
	if broken {
		<-n.failed
	}
	return n.failure()
}

// failure returns the error of a group that has failed.
func (g *ncclGroup) failure() error {
	select {
	case <-g.failed:
		return g.err
	default:
		return nil
	}
}

// Close waits for what is under way and releases the group.
func (g *ncclGroup) Close() {
	g.closed.Do(func() {
		close(g.closing)
		<-g.watched
		if g.failure() == nil {
			g.finalize()
		}
		g.free()
	})
}

// closeTimeout is how long Close waits for peers, which come to it at about the same time.
const closeTimeout = 2 * time.Second

func (g *ncclGroup) finalize() {
	err := g.comm.Finalize()
	if err == nil || err == nccl.ErrInProgress {
		err = g.comm.Await(min(closeTimeout, g.config.Timeout))
	}
	if err == nil {
		err = g.comm.Destroy()
	}
	if err != nil {
		_ = g.comm.Abort() // a peer has failed, and says so itself
	}
}

// free releases what the group has of NCCL's and CUDA's.
func (g *ncclGroup) free() {
	if g.comm != nil {
		_ = g.comm.Abort() // ErrClosed where it has ended
	}
	if g.stream == 0 {
		return
	}
	for _, w := range g.pending {
		g.events = append(g.events, w.event)
	}
	for _, e := range append(g.events, g.computed) {
		_ = g.cuda.DestroyEvent(e) // nothing can be done about an error
	}
	_ = g.cuda.DestroyStream(g.stream)
}
