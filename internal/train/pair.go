package train

import (
	"errors"
	"fmt"
	"strings"
)

// namePair says between whom a collective failed, as far as that is known. libtorch names the address that a broken connection led to, and that is a node's; the ranks of this rank's own
// node name each other.
func (job *Job) namePair(err error) error {
	if !errors.Is(err, ErrPeer) {
		return err
	}
	var there *Node
	for i, n := range job.Nodes {
		mine := job.Rank >= n.FirstRank && job.Rank < n.FirstRank+n.Ranks
		if n.Address == "" || !strings.Contains(err.Error(), "["+n.Address+"]") {
			continue
		}
		if mine || there != nil { // nodes that share an address
			return err
		}
		there = &job.Nodes[i]
	}
	if there == nil {
		return err
	}
	last := there.FirstRank + there.Ranks - 1
	other := job.rankName(last)
	if there.Ranks > 1 {
		other = fmt.Sprintf("one of ranks %d to %d (%s)", there.FirstRank, last, there.Name)
	}
	return mark(ErrPeer, fmt.Errorf("between %s and %s: %w", job.rankName(job.Rank), other, err))
}
