package ddp

import (
	"fmt"
	"time"

	"github.com/ddprun/ddprun/internal/torch"
)

// NewGloo returns the group of size ranks that meet in store, on libtorch's Gloo over TCP. address is what this rank's peers connect
// to, an address or host name of this node; timeout bounds the meeting and every collective. It blocks until all are there.
func NewGloo(store torch.Store, rank, size int, address string, timeout time.Duration) (Group, error) {
	g, err := torch.NewGloo(store, rank, size, address, timeout)
	if err != nil {
		return nil, fmt.Errorf("rank %d of %d: cannot form the process group: %w", rank, size, err)
	}
	return &glooGroup{g: g, rank: rank, size: size}, nil
}

type glooGroup struct {
	g          *torch.Gloo
	rank, size int
}

func (g *glooGroup) Rank() int { return g.rank }
func (g *glooGroup) Size() int { return g.size }

func (g *glooGroup) AllReduce(t torch.Tensor) (Work, error) {
	w, err := g.g.AllReduce(t)
	return g.work("all-reduce", w, err)
}

func (g *glooGroup) Broadcast(t torch.Tensor, root int) (Work, error) {
	w, err := g.g.Broadcast(t, root)
	return g.work("broadcast", w, err)
}

func (g *glooGroup) AllGather(t, out torch.Tensor) (Work, error) {
	w, err := g.g.AllGather(t, out)
	return g.work("all-gather", w, err)
}

func (g *glooGroup) Abort() { g.g.Abort() }
func (g *glooGroup) Close() { g.g.Close() }

func (g *glooGroup) work(op string, w torch.Work, err error) (Work, error) {
	if err != nil {
		return nil, g.explain(op, err)
	}
	return glooWork{g, op, w}, nil
}

func (g *glooGroup) explain(op string, err error) error {
	return fmt.Errorf("rank %d of %d: %s failed, a peer is gone or silent: %w", g.rank, g.size, op, err)
}

type glooWork struct {
	g  *glooGroup
	op string
	w  torch.Work
}

func (w glooWork) Wait() error {
	if err := w.w.Wait(); err != nil {
		return w.g.explain(w.op, err)
	}
	return nil
}
