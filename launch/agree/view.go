package agree

import (
	"fmt"
	"strings"
	"time"
)

// View is how an agent sees the run, for `ddprun status`.
type View struct {
	Self        string     `json:"self"`
	Phase       string     `json:"phase"` // of this agent: starting, waiting, confirming, running, stopping, ending, or a leader's
	Waiting     string     `json:"waiting_for,omitempty"`
	Leader      string     `json:"leader,omitempty"` // ID of whom it follows
	Record      *Record    `json:"record,omitempty"` // the highest
	Newest      int64      `json:"newest_checkpoint"`
	ReadAgo     Seconds    `json:"records_read_seconds_ago"`
	ReadError   string     `json:"records_error,omitempty"`
	LeaseLeft   Seconds    `json:"lease_left_seconds,omitempty"` // of the workers here
	Nodes       []NodeView `json:"nodes"`
	Outcome     *Outcome   `json:"outcome,omitempty"` // the run ends with this
	LeaveReason string     `json:"leaving,omitempty"`
}

// NodeView is how an agent sees another one, or itself.
type NodeView struct {
	Node
	Connected     bool    `json:"connected"`
	HeardAgo      Seconds `json:"heard_seconds_ago"` // -1: never
	Member        bool    `json:"member"`            // of the highest record
	GroupRank     int     `json:"group_rank"`        // -1: it is no member
	FirstRank     int     `json:"first_rank"`        // -1
	Generation    int     `json:"generation"`        // of its workers; -1: it has none, or it is not known
	Checkpoint    int64   `json:"checkpoint,omitempty"`
	Leaving       bool    `json:"leaving,omitempty"`
	Gone          bool    `json:"gone,omitempty"`
	ExcludedUntil Seconds `json:"excluded_seconds,omitempty"` // from now
	Failure       string  `json:"failure,omitempty"`
}

// Seconds are a duration for people and scripts.
type Seconds float64

// View returns how this agent sees the run. Who does not lead hears only from its leader.
func (m *Machine) View() View {
	v := View{
		Self: m.c.Self.ID, Phase: m.phase(), Record: m.look.Highest, Newest: max(m.look.Newest, m.newest), ReadAgo: -1, Outcome: m.end,
	}
	if m.head != nil {
		v.Leader = m.head.node.ID
		if w := m.head.word; w != nil && w.Reason != "" {
			v.Waiting = w.Reason
		}
	}
	if m.looked {
		v.ReadAgo = seconds(m.now - m.look.Asked)
	}
	if m.readErr != nil {
		v.ReadError = m.readErr.Error()
	}
	if m.workers.number >= 0 && !m.c.Exclusive {
		v.LeaseLeft = seconds(m.workers.until - m.now)
	}
	if m.leaving != nil {
		v.LeaveReason = m.leaving.Reason
	}
	excluded := map[string]time.Duration{}
	if m.lead != nil {
		v.Waiting = m.lead.waiting
		excluded = m.excluded(m.lead.lossesNow(m))
	} else if m.look.Highest != nil {
		excluded = m.excluded(m.aged(m.look.Highest))
	}
	for _, p := range m.order {
		v.Nodes = append(v.Nodes, m.viewOf(p, excluded[keyOf(p.node)]))
	}
	return v
}

func (m *Machine) phase() string {
	switch {
	case m.exited, m.end != nil:
		return "ending"
	case m.lead != nil:
		return string(m.lead.phase)
	case m.workers.stop != "":
		return string(leadDrain)
	case m.workers.number >= 0:
		return string(leadRun)
	case !m.looked:
		return "starting"
	case m.look.Highest != nil && m.tried == m.highest() && m.tried > m.workers.ran:
		return string(leadConfirm)
	}
	return "waiting"
}

func (m *Machine) viewOf(p *peer, excluded time.Duration) NodeView {
	v := NodeView{Node: p.node, Connected: p.connected, HeardAgo: -1, GroupRank: -1, FirstRank: -1, Generation: -1}
	if r := p.report; r != nil {
		v.HeardAgo, v.Generation, v.Checkpoint, v.Leaving, v.Gone = seconds(m.now-p.heard), r.Busy, r.Checkpoint, r.Leaving, r.Gone
		if r.Failure != nil {
			v.Failure = r.Failure.Message
		}
	}
	if p == m.self {
		v.Generation, v.HeardAgo = m.workers.number, 0
	}
	if r := m.look.Highest; r != nil {
		if i := r.Index(p.node.ID); i >= 0 {
			v.Member, v.GroupRank, v.FirstRank = true, i, r.Members[i].FirstRank
		}
	}
	if excluded > m.now {
		v.ExcludedUntil = seconds(excluded - m.now)
	}
	return v
}

func seconds(d time.Duration) Seconds { return Seconds(d.Seconds()) }

// name is an agent for people.
func (m *Machine) name(id string) string {
	if p := m.peers[id]; p != nil && p.node.Host != "" {
		return fmt.Sprintf("node %s on %s", id, p.node.Host)
	}
	return "node " + id
}

func (m *Machine) names(ids []string) string {
	var all []string
	for _, id := range ids {
		all = append(all, m.name(id))
	}
	return strings.Join(all, ", ")
}

func (m *Machine) pairs(pairs [][2]string) string {
	var all []string
	for _, pair := range pairs {
		all = append(all, m.name(pair[0])+" to "+m.name(pair[1]))
	}
	return strings.Join(all, "; ")
}
