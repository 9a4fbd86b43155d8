package ddp

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/torch"
)

// collectives is what every kind of group must do. It checks the results itself.
func collectives(g Group) error {
	return torch.Do(func(s *torch.Scope) error {
		rank, size := g.Rank(), g.Size()
		check := func(ok bool, what string) error {
			if !ok {
				return errors.New("wrong " + what)
			}
			return nil
		}
		var failures []error
		for _, n := range []int{1, 7, 300_000} {
			t := s.Zeros(torch.Float32, int64(n))
			for i := range t.Float32s() {
				t.Float32s()[i] = float32((i%97 + 1) * (rank + 1))
			}
			w, err := g.AllReduce(t)
			if err != nil {
				return err
			}
			if err := w.Wait(); err != nil {
				return err
			}
			bad := 0
			for i, x := range t.Float32s() {
				if x != float32((i%97+1)*size*(size+1)/2) {
					bad++
				}
			}
			failures = append(failures, check(bad == 0, "sum"))
		}
		for root := range size {
			t := s.FromInt64s([]int64{int64(rank), 1 << 60})
			w, err := g.Broadcast(t, root)
			if err != nil {
				return err
			}
			if err := w.Wait(); err != nil {
				return err
			}
			failures = append(failures, check(slices.Equal(t.Int64s(), []int64{int64(root), 1 << 60}), "broadcast"))
		}
		rows, err := GatherFloat64s(g, []float64{float64(rank), 0.1})
		if err != nil {
			return err
		}
		failures = append(failures, check(len(rows) == size, "number of rows"))
		for r, row := range rows {
			failures = append(failures, check(slices.Equal(row, []float64{float64(r), 0.1}), "row"))
		}
		sums := []float64{1, float64(rank)}
		if err := SumFloat64s(g, sums); err != nil {
			return err
		}
		failures = append(failures, check(slices.Equal(sums, []float64{float64(size), float64(size * (size - 1) / 2)}), "float64 sum"))
		empty := []float64{}
		failures = append(failures, SumFloat64s(g, empty), Barrier(g))
		return errors.Join(failures...)
	})
}

func TestLocalCollectives(t *testing.T) {
	live := torch.Live()
	for size := 1; size <= 4; size++ {
		if err := errors.Join(onRanks(t, NewLocal(size, nil), collectives)...); err != nil {
			t.Errorf("%d ranks: %v", size, err)
		}
	}
	if torch.Live() != live {
		t.Errorf("%d tensors live, %d before", torch.Live(), live)
	}
}

func TestLocalRefusesCollectivesThatDiffer(t *testing.T) {
	wait := func(w Work, err error) error {
		if err != nil {
			return err
		}
		return w.Wait()
	}
	for name, f := range map[string]func(s *torch.Scope, g Group) error{
		"kind": func(s *torch.Scope, g Group) error {
			if g.Rank() == 0 {
				return wait(g.Broadcast(s.Zeros(torch.Float32, 2), 0))
			}
			return wait(g.AllReduce(s.Zeros(torch.Float32, 2)))
		},
		"root": func(s *torch.Scope, g Group) error { return wait(g.Broadcast(s.Zeros(torch.Float32, 2), g.Rank())) },
		"size": func(s *torch.Scope, g Group) error {
			return wait(g.AllReduce(s.Zeros(torch.Float32, int64(2+g.Rank()))))
		},
		"dtype": func(s *torch.Scope, g Group) error {
			return wait(g.AllReduce(s.Zeros([]torch.DType{torch.Float32, torch.Float64}[g.Rank()], 2)))
		},
		"unknown dtype": func(s *torch.Scope, g Group) error { return wait(g.AllReduce(s.Zeros(torch.Int32, 2))) },
		"broadcast": func(s *torch.Scope, g Group) error {
			return wait(g.Broadcast(s.Zeros(torch.Float32, int64(2-g.Rank())), 0))
		},
		"gather": func(s *torch.Scope, g Group) error {
			return wait(g.AllGather(s.Zeros(torch.Float32, 2), s.Zeros(torch.Float32, 3)))
		},
		"no such root": func(s *torch.Scope, g Group) error { return wait(g.Broadcast(s.Zeros(torch.Float32, 2), 2)) },
	} {
		errs := onRanks(t, NewLocal(2, nil), func(g Group) error {
			return torch.Do(func(s *torch.Scope) error { return f(s, g) })
		})
		for rank, err := range errs {
			if err == nil {
				t.Errorf("%s: rank %d got no error", name, rank)
			}
		}
	}
}

// A rank whose peers have aborted must not touch their tensors, which may be gone.
func TestLocalAbort(t *testing.T) {
	groups := NewLocal(2, nil)
	err := torch.Do(func(s *torch.Scope) error {
		w, err := groups[0].AllReduce(s.Zeros(torch.Float32, 4))
		if err != nil {
			return err
		}
		groups[0].Abort()
		return w.Wait()
	})
	if !errors.Is(err, ErrAborted) {
		t.Fatalf("got %v", err)
	}
	err = SumFloat64s(groups[1], []float64{1})
	if !errors.Is(err, ErrAborted) || strings.Contains(err.Error(), "dtype") {
		t.Fatalf("got %v", err)
	}
}
