package train

import (
	"errors"
	"testing"
)

func TestPairIsNamed(t *testing.T) {
	nodes := []Node{{Name: "a", Address: "10.0.0.1", Ranks: 2}, {Name: "b", Address: "10.0.0.2", FirstRank: 2, Ranks: 2}, {Name: "c", Address: "fd00::3", FirstRank: 4, Ranks: 1}}
	shared := []Node{{Name: "a", Address: "127.0.0.1", Ranks: 1}, {Name: "b", Address: "127.0.0.1", FirstRank: 1, Ranks: 1}}
	for _, c := range []struct {
		nodes      []Node
		kind       error
		said, want string
	}{
		{nodes, ErrPeer, "Connection closed by peer [10.0.0.2]:4321", "between rank 1 (a) and one of ranks 2 to 3 (b): Connection closed by peer [10.0.0.2]:4321"},
		{nodes, ErrPeer, "Read error [fd00::3]:4321: Connection reset by peer", "between rank 1 (a) and rank 4 (c): Read error [fd00::3]:4321: Connection reset by peer"},
		{nodes, ErrPeer, "Timed out waiting 1000ms", "Timed out waiting 1000ms"},
		{nodes, ErrPeer, "Connection closed by peer [10.0.0.1]:4321", "Connection closed by peer [10.0.0.1]:4321"},
		{shared, ErrPeer, "Connection closed by peer [127.0.0.1]:4321", "Connection closed by peer [127.0.0.1]:4321"},
		{nodes, ErrInput, "no file [10.0.0.2]", "no file [10.0.0.2]"},
	} {
		job := &Job{Rank: 1, World: 5, Nodes: c.nodes}
		if len(c.nodes) == 2 {
			job.Rank, job.World = 0, 2
		}
		err := job.namePair(mark(c.kind, errors.New(c.said)))
		if err.Error() != c.want || !errors.Is(err, c.kind) {
			t.Errorf("%q, want %q", err, c.want)
		}
	}
}
