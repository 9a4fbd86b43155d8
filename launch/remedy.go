package launch

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/ddprun/ddprun/launch/agree"
	"github.com/ddprun/ddprun/launch/mesh"
)

// remind says how a node comes back that was lost and does not come by itself, where it had said so. One of the agents that are left speaks.
func (p *peers) remind(lost agree.Node) {
	if lost.Remedy == "" {
		return
	}
	select {
	case <-p.ended:
		return
	case <-time.After(p.run.RemedyAfter):
	}
	mine := p.run.self
	for _, node := range p.nodes() {
		if sameSeat(node, lost) || cmp.Or(cmp.Compare(node.Rank, mine.Rank), cmp.Compare(node.ID, mine.ID)) < 0 {
			return // it, or its successor, is here; or that one speaks
		}
	}
	p.run.Logger.Warn().Str("node", lost.ID).Str("host", lost.Host).Str("remedy", lost.Remedy).Stringer("lost_for", p.run.RemedyAfter).
		Msg("a node has been lost for long; if its machine is down, the remedy brings another in its place")
}

// sameSeat says whether a node is one that was lost, or has come in its place.
func sameSeat(n, lost agree.Node) bool {
	if n.Rank >= 0 || lost.Rank >= 0 {
		return n.Rank == lost.Rank
	}
	return n.Host == lost.Host
}

// nodes are those that this agent is connected with.
func (p *peers) nodes() []agree.Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []agree.Node
	for _, peer := range p.known {
		if h, err := helloOf(peer); err == nil {
			all = append(all, h.Node)
		}
	}
	return all
}

func helloOf(peer mesh.Peer) (h hello, err error) {
	err = json.Unmarshal(peer.Hello, &h)
	return h, err
}
