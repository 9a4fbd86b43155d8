package agree

import (
	"encoding/json"
	"slices"
	"time"
)

// Node is an agent as the others know it.
type Node struct {
	ID     string `json:"id"`               // of this process: "<node rank>-<random>"
	Rank   int    `json:"node_rank"`        // as declared; -1: none was
	NProc  int    `json:"nproc"`            // workers it starts
	Host   string `json:"host"`             // name, for people
	Addr   string `json:"address"`          // where ranks of other nodes reach its ranks; an IP address or host name
	Note   string `json:"device,omitempty"` // what its ranks run on, for people: nodes that differ are named at start
	Remedy string `json:"remedy,omitempty"` // what people can do when it was lost and does not come back
}

// Record is a generation as its claimant has planned it: what output_dir/.ddprun/generation-<n> holds. It never changes.
type Record struct {
	Number      int      `json:"generation"` // from 0 on
	RunID       string   `json:"run_id"`
	Coordinator string   `json:"coordinator"` // ID of the member that has claimed it
	Members     []Member `json:"members"`     // in order of ranks, without holes
	World       int      `json:"world_size"`
	MaxWorld    int      `json:"max_world_size"` // what lanes follow from where the configuration does not say
	Start       int64    `json:"start_step"`     // step of the newest checkpoint that counted when it was claimed; 0: none

	Restarts int      `json:"restarts"`         // of workers that failed, so far
	Barren   int      `json:"barren"`           // failures and losses since the last newer checkpoint
	Losses   []Loss   `json:"losses,omitempty"` // of nodes, lately: who fails again and again is left out
	Cause    string   `json:"cause,omitempty"`  // why the generation before ended, for people
	Excluded []string `json:"excluded,omitempty"`
	Fence    []string `json:"fence,omitempty"` // IDs of agents of earlier generations that were not known to be down, besides the members
}

// Index returns where an agent is among the members, -1: it is none.
func (r *Record) Index(id string) int {
	return slices.IndexFunc(r.Members, func(m Member) bool { return m.ID == id })
}

// Member is a node's place in a generation.
type Member struct {
	Node
	GroupRank int `json:"group_rank"` // its index in Members
	FirstRank int `json:"first_rank"` // its ranks are FirstRank to FirstRank+NProc-1
}

// Loss is a node that was lost or whose workers failed.
type Loss struct {
	Rank int           `json:"node_rank"`
	Host string        `json:"host"`
	Ago  time.Duration `json:"ago"` // before the claim
}

// Failure is a worker's failure as far as the machine looks at it.
type Failure struct {
	Node      string          `json:"node"` // ID
	Rank      int             `json:"rank"`
	Echo      int             `json:"echo"` // how likely it is another's: 0 a wrong configuration, 1 its own, 2 an echo
	ExitCode  int             `json:"exit_code"`
	Permanent bool            `json:"permanent,omitempty"` // starting again would fail the same way
	Message   string          `json:"message"`
	Detail    json.RawMessage `json:"detail,omitempty"` // for package launch: all that is known
}

// Outcome is how a run ended: output_dir/.ddprun/outcome.json.
type Outcome struct {
	Code       int      `json:"code"` // launch's Exit constants
	Reason     string   `json:"reason,omitempty"`
	RunID      string   `json:"run_id"`
	Digest     string   `json:"digest"` // of the configuration, so that a finished run is told from a changed one
	Generation int      `json:"generation"`
	Step       int64    `json:"step"` // of the newest checkpoint
	Failure    *Failure `json:"failure,omitempty"`
}
