package ddp

import (
	"errors"
	"fmt"
	"sync"

	"github.com/ddprun/ddprun/internal/torch"
)

// ErrAborted is what collectives of a local group return after a rank's Abort.
var ErrAborted = errors.New("process group aborted")

// Fault decides whether collective number seq (from 0) of a rank fails, before it starts. It is for tests.
type Fault func(rank int, seq int64) error

// NewLocal returns the groups of size ranks in this process, one a goroutine. With size 1 it is the group of a run that has
// no peers. fault may be nil.
func NewLocal(size int, fault Fault) []Group {
	hub := &localHub{size: size, fault: fault, ops: map[int64]*localOp{}, aborted: make(chan struct{})}
	groups := make([]Group, size)
	for r := range groups {
		groups[r] = &localGroup{hub: hub, rank: r}
	}
	return groups
}

// localHub is what the ranks share.
type localHub struct {
	size    int
	fault   Fault
	mu      sync.Mutex
	ops     map[int64]*localOp
	aborted chan struct{}
	once    sync.Once
}

// localOp is one collective: the last rank to arrive does the work.
type localOp struct {
	kind    string
	root    int // of a broadcast
	in, out []torch.Tensor
	arrived int
	done    chan struct{}
	err     error
	hub     *localHub
}

type localGroup struct {
	hub  *localHub
	rank int
	seq  int64
}

func (g *localGroup) Rank() int { return g.rank }
func (g *localGroup) Size() int { return g.hub.size }
func (g *localGroup) Close()    {}
func (g *localGroup) Abort()    { g.hub.once.Do(func() { close(g.hub.aborted) }) }

func (g *localGroup) AllReduce(t torch.Tensor) (Work, error) { return g.join("all-reduce", 0, t, t) }

func (g *localGroup) Broadcast(t torch.Tensor, root int) (Work, error) {
	if root < 0 || root >= g.hub.size {
		return nil, fmt.Errorf("broadcast from rank %d of %d", root, g.hub.size)
	}
	return g.join("broadcast", root, t, t)
}

func (g *localGroup) AllGather(t, out torch.Tensor) (Work, error) {
	return g.join("all-gather", 0, t, out)
}

func (g *localGroup) join(kind string, root int, in, out torch.Tensor) (Work, error) {
	seq := g.seq
	g.seq++
	if g.hub.fault != nil {
		if err := g.hub.fault(g.rank, seq); err != nil {
			g.Abort()
			return nil, err
		}
	}
	h := g.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isAborted() { // others may have freed their tensors
		return nil, ErrAborted
	}
	op := h.ops[seq]
	if op == nil {
		op = &localOp{kind: kind, root: root, in: make([]torch.Tensor, h.size), out: make([]torch.Tensor, h.size), done: make(chan struct{}), hub: h}
		h.ops[seq] = op
	}
	if op.kind != kind || op.root != root {
		op.err = fmt.Errorf("collective %d is %s (root %d) on rank %d and %s (root %d) on another", seq, kind, root, g.rank, op.kind, op.root)
	}
	op.in[g.rank], op.out[g.rank] = in, out
	if op.arrived++; op.arrived == h.size {
		delete(h.ops, seq)
		if op.err == nil {
			op.err = op.run()
		}
		close(op.done)
	}
	return op, nil
}

func (h *localHub) isAborted() bool {
	select {
	case <-h.aborted:
		return true
	default:
		return false
	}
}

// Wait blocks until every rank has arrived, or one has aborted.
func (op *localOp) Wait() error {
	select {
	case <-op.done:
		return op.err
	case <-op.hub.aborted:
	}
	op.hub.mu.Lock() // whoever works on the tensors is done after this, and nobody begins
	defer op.hub.mu.Unlock()
	select {
	case <-op.done:
		return op.err
	default:
		return ErrAborted
	}
}

// run does the collective in rank order.
func (op *localOp) run() error {
	switch op.kind {
	case "all-reduce":
		return op.sum()
	case "broadcast":
		for r, out := range op.out {
			if r == op.root {
				continue
			}
			if err := copyInto(out, 0, op.in[op.root]); err != nil {
				return err
			}
		}
	case "all-gather":
		for _, out := range op.out {
			row := int64(0)
			for _, in := range op.in {
				if err := copyInto(out, row, in); err != nil {
					return err
				}
				row += in.Numel()
			}
		}
	}
	return nil
}

func (op *localOp) sum() error {
	if len(op.in) == 1 {
		return nil
	}
	first := op.in[0]
	for _, t := range op.in {
		if t.Numel() != first.Numel() || t.DType() != first.DType() {
			return fmt.Errorf("all-reduce of %d elements of dtype %d and %d of dtype %d", first.Numel(), first.DType(), t.Numel(), t.DType())
		}
	}
	switch first.DType() {
	case torch.Float32:
		addAll(op.in, torch.Tensor.Float32s)
	case torch.Float64:
		addAll(op.in, torch.Tensor.Float64s)
	case torch.Int64:
		addAll(op.in, torch.Tensor.Int64s)
	default:
		return fmt.Errorf("all-reduce of dtype %d", first.DType())
	}
	return nil
}

func addAll[T float32 | float64 | int64](ts []torch.Tensor, view func(torch.Tensor) []T) {
	first := view(ts[0])
	for _, t := range ts[1:] {
		for i, x := range view(t) {
			first[i] += x
		}
	}
	for _, t := range ts[1:] {
		copy(view(t), first)
	}
}

func copyInto(dst torch.Tensor, at int64, src torch.Tensor) error {
	if dst.DType() != src.DType() || dst.Numel() < at+src.Numel() {
		return fmt.Errorf("copy of %d elements of dtype %d to place %d of %d of dtype %d", src.Numel(), src.DType(), at, dst.Numel(), dst.DType())
	}
	switch src.DType() {
	case torch.Float32:
		copy(dst.Float32s()[at:], src.Float32s())
	case torch.Float64:
		copy(dst.Float64s()[at:], src.Float64s())
	case torch.Int64:
		copy(dst.Int64s()[at:], src.Int64s())
	default:
		return fmt.Errorf("copy of dtype %d", src.DType())
	}
	return nil
}
