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

func (g *localGroup) AllReduce(t torch.Tensor) (Work, error) { return g.join("all-reduce", t, t) }

func (g *localGroup) Broadcast(t torch.Tensor, root int) (Work, error) {
	return g.join(fmt.Sprintf("broadcast from %d", root), t, t)
}

func (g *localGroup) AllGather(t, out torch.Tensor) (Work, error) {
	return g.join("all-gather", t, out)
}

func (g *localGroup) join(kind string, in, out torch.Tensor) (Work, error) {
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
	op := h.ops[seq]
	if op == nil {
		op = &localOp{kind: kind, in: make([]torch.Tensor, h.size), out: make([]torch.Tensor, h.size), done: make(chan struct{}), hub: h}
		h.ops[seq] = op
	}
	if op.kind != kind {
		op.err = fmt.Errorf("collective %d is %s on one rank and %s on rank %d", seq, op.kind, kind, g.rank)
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

// Wait blocks until every rank has arrived, or one has aborted.
func (op *localOp) Wait() error {
	select {
	case <-op.done:
		return op.err
	case <-op.hub.aborted:
		return ErrAborted
	}
}

// run does the collective in rank order.
func (op *localOp) run() error {
	var root int
	switch {
	case op.kind == "all-reduce":
		return op.sum()
	case op.kind == "all-gather":
		for _, out := range op.out {
			for r, in := range op.in {
				row := int64(r) * in.Numel()
				if err := copyInto(out, row, in); err != nil {
					return err
				}
			}
		}
		return nil
	default:
		if _, err := fmt.Sscanf(op.kind, "broadcast from %d", &root); err != nil || root >= len(op.in) {
			return fmt.Errorf("collective %q of %d ranks", op.kind, len(op.in))
		}
		for r, out := range op.out {
			if r == root {
				continue
			}
			if err := copyInto(out, 0, op.in[root]); err != nil {
				return err
			}
		}
		return nil
	}
}

func (op *localOp) sum() error {
	if len(op.in) == 1 {
		return nil
	}
	n := op.in[0].Numel()
	for _, t := range op.in {
		if t.Numel() != n {
			return fmt.Errorf("all-reduce of %d and %d elements", n, t.Numel())
		}
	}
	switch op.in[0].DType() {
	case torch.Float32:
		addAll(op.in, torch.Tensor.Float32s)
	case torch.Float64:
		addAll(op.in, torch.Tensor.Float64s)
	case torch.Int64:
		addAll(op.in, torch.Tensor.Int64s)
	default:
		return fmt.Errorf("all-reduce of dtype %d", op.in[0].DType())
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
	default:
		copy(dst.Int64s()[at:], src.Int64s())
	}
	return nil
}
