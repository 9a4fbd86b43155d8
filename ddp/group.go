package ddp

import (
	"github.com/ddprun/ddprun/internal/torch"
)

// Group is a set of ranks that compute together. Collectives are asynchronous: they start in call order, the same on every
// rank, and their tensors must not be touched until Wait returns. A failed collective ends the group's usefulness.
type Group interface {
	Rank() int
	Size() int
	// AllReduce sums t over the ranks, in place.
	AllReduce(t torch.Tensor) (Work, error)
	// Broadcast copies root's t to every rank's t.
	Broadcast(t torch.Tensor, root int) (Work, error)
	// AllGather copies rank r's t [n] to row r of every rank's out [size, n].
	AllGather(t, out torch.Tensor) (Work, error)
	// Abort makes collectives under way fail on this rank; its peers then fail as if this rank had died.
	Abort()
	// Close releases the group when nothing is under way.
	Close()
}

// Work is a collective under way; Wait is called exactly once.
type Work interface{ Wait() error }

// Barrier returns when every rank has called it.
func Barrier(g Group) error {
	return torch.Do(func(s *torch.Scope) error {
		w, err := g.AllReduce(s.Zeros(torch.Float32, 1))
		if err != nil {
			return err
		}
		return w.Wait()
	})
}

// SumFloat64s sums v over the ranks, in place.
func SumFloat64s(g Group, v []float64) error {
	return torch.Do(func(s *torch.Scope) error {
		t := s.Zeros(torch.Float64, int64(len(v)))
		copy(t.Float64s(), v)
		w, err := g.AllReduce(t)
		if err != nil {
			return err
		}
		if err := w.Wait(); err != nil {
			return err
		}
		copy(v, t.Float64s())
		return nil
	})
}

// GatherFloat64s returns every rank's v, which must be of one length, in rank order.
func GatherFloat64s(g Group, v []float64) ([][]float64, error) {
	rows := make([][]float64, g.Size())
	err := torch.Do(func(s *torch.Scope) error {
		n := int64(len(v))
		in, out := s.Zeros(torch.Float64, n), s.Zeros(torch.Float64, int64(g.Size()), n)
		copy(in.Float64s(), v)
		w, err := g.AllGather(in, out)
		if err != nil {
			return err
		}
		if err := w.Wait(); err != nil {
			return err
		}
		for r := range rows {
			rows[r] = append([]float64(nil), out.Float64s()[int64(r)*n:int64(r+1)*n]...)
		}
		return nil
	})
	return rows, err
}
