package pipe

import (
	"encoding/json"
	"time"
)

// Version is the version of the protocol. A worker names it in its Hello; an agent takes no other.
const Version = 2

// MaxMessageBytes bounds one message, its newline included. A longer one ends the line: its length says nothing about
// what the other side may still send.
const MaxMessageBytes = 8 << 20

// Environment variables that an agent sets for its workers.
const (
	EnvFD       = "DDPRUN_PIPE_FD"   // number of the descriptor that is the worker's end
	EnvAgentPID = "DDPRUN_AGENT_PID" // process id that the worker's parent must have
)

// Start tells a worker what to run and where it stands. It is the agent's first message.
type Start struct {
	Config     json.RawMessage `json:"config"`     // the run's configuration, as the agent was given it
	RunID      string          `json:"run_id"`     // the same for all workers and all attempts of a run
	Generation int             `json:"generation"` // counts the starts of the group of workers; prefixes the store's keys
	OutputDir  string          `json:"output_dir"` // may be empty
	LogDir     string          `json:"log_dir"`    // this rank's own directory in this attempt; may be empty

	Rank           int `json:"rank"`             // 0 <= Rank < WorldSize; one without a lane stands by: it takes part, and trains on nothing
	LocalRank      int `json:"local_rank"`       // rank among the workers of this node: the device to take
	WorldSize      int `json:"world_size"`       // workers in all
	LocalWorldSize int `json:"local_world_size"` // workers on this node
	NodeRank       int `json:"node_rank"`        // torchrun's GROUP_RANK
	NodeCount      int `json:"node_count"`       // torchrun's GROUP_WORLD_SIZE; with more than one, ranks of different nodes share no memory

	// What the number of ranks may be in other generations of this run; 0: WorldSize. Lanes follow from MaxWorld where the configuration gives no
	// global batch; where it gives one, MinWorld must not be more than its lanes.
	MinWorld int `json:"min_world_size,omitempty"`
	MaxWorld int `json:"max_world_size,omitempty"`

	StartStep int64  `json:"start_step,omitempty"` // of the newest checkpoint when the generation was claimed: for people, rank 0 looks again
	Nodes     []Node `json:"nodes,omitempty"`      // of all ranks, in rank order; may be empty

	Threads int    `json:"threads"` // threads this rank's tensor work may use, at least 1
	Host    string `json:"host"`    // address at which other ranks reach this one: for Gloo's device

	Debug     bool `json:"debug,omitempty"`     // wait for a debugger before all else; the agent has no time-outs for this rank
	Debugging bool `json:"debugging,omitempty"` // some rank has Debug: collectives wait for it as long as it takes

	Lease int64 `json:"lease,omitempty"` // as Agent.Lease; set by the agent
}

// Node is where some of a run's ranks are.
type Node struct {
	ID        string `json:"id"`      // of the agent's process
	Name      string `json:"name"`    // for people
	Address   string `json:"address"` // as the Host of its ranks
	FirstRank int    `json:"first_rank"`
	Ranks     int    `json:"ranks"` // FirstRank to FirstRank+Ranks-1 are there
}

// StopHow says how a worker is asked to stop.
type StopHow string

// Ways to stop.
const (
	StopCheckpoint StopHow = "checkpoint" // agree with the other ranks on a step, write a checkpoint, exit with 75
	StopNow        StopHow = "now"        // exit without a checkpoint
)

// Stop asks a worker to stop.
type Stop struct {
	Reason string  `json:"reason"` // for people: "SIGTERM", "rank 1 failed"
	How    StopHow `json:"how"`
}

// Hello is a worker's first message.
type Hello struct {
	PID     int    `json:"pid"`
	Version int    `json:"version"` // of the protocol
	Program string `json:"program"` // the program's own version, for people
}

// Phase names what a worker is doing; time-outs differ by phase.
type Phase string

// Phases of a worker.
const (
	PhaseSetup      Phase = "setup"      // from the start of the process to the first step: model, process group
	PhasePrepare    Phase = "prepare"    // building shards
	PhaseTrain      Phase = "train"      // optimizer steps
	PhaseEvaluate   Phase = "evaluate"   // held-out text
	PhaseCheckpoint Phase = "checkpoint" // writing a checkpoint
)

// Progress is a worker's sign of life: it is in Phase and has finished Step optimizer steps.
type Progress struct {
	Phase Phase     `json:"phase"`
	Step  int64     `json:"step"`
	Time  time.Time `json:"time"` // set by Worker.Progress; for people, durations are measured by the agent's clock

	// Checkpoint is the step of the newest checkpoint that is complete on disk, 0 for none. During PhaseSetup it is the one
	// resumed from; an attempt has made progress if the number has grown since.
	Checkpoint int64 `json:"checkpoint"`
}

// Beat is a worker's sign of life of its own: Worker sends one each second, whatever the work does meanwhile.
type Beat struct {
	Phase      Phase `json:"phase"` // with Step and Checkpoint as in the newest Progress
	Step       int64 `json:"step"`
	Checkpoint int64 `json:"checkpoint"`
	LastsMS    int64 `json:"lasts_ms"` // since the newest Progress, by the worker's monotonic clock
	Activity         // what Worker.Observe tells
}

// Activity is what a worker's work is doing at this moment.
type Activity struct {
	Doing   string `json:"doing,omitempty"`   // for people: "forward and backward"
	Waiting bool   `json:"waiting,omitempty"` // for other ranks: what holds this one up is elsewhere
	Done    uint64 `json:"done,omitempty"`    // counts pieces of work; a larger number is progress, as a Progress is
}

// Metrics are numbers of the training by their names in metrics.jsonl, and total_steps. Rank 0 tells them.
type Metrics map[string]float64

// ErrorReport is a worker's own account of its failure, sent just before it exits.
type ErrorReport struct {
	Message string    `json:"message"`
	Phase   Phase     `json:"phase"`
	Step    int64     `json:"step"`
	Time    time.Time `json:"time"`            // set by Worker.Error when zero
	Stack   string    `json:"stack,omitempty"` // goroutine stack, where there is one

	// Permanent says that starting again would fail the same way (a loss that is not finite, a full disk), so the run
	// ends instead.
	Permanent bool `json:"permanent,omitempty"`
	// Secondary says that the failure is the echo of another rank's (a collective lost its peer), so that this account
	// is not taken for the cause where another rank failed as well.
	Secondary bool `json:"secondary,omitempty"`
}

// Done says that a worker's work has ended well and that it is about to exit: with 0 for a finished run, with 75 for one
// stopped with a checkpoint. An exit with 0 that was not announced by Done is a failure (a C library called exit).
type Done struct {
	Step    int64 `json:"step"`
	Stopped bool  `json:"stopped"` // on request, with a checkpoint, before the end
}

// message is one line of the stream. Exactly one field is set.
type message struct {
	Start *Start `json:"start,omitempty"`
	Stop  *Stop  `json:"stop,omitempty"`
	Reply *Reply `json:"reply,omitempty"`
	Trace *trace `json:"trace,omitempty"`
	Lease int64  `json:"lease,omitempty"` // nanoseconds of Boottime

	Hello    *Hello       `json:"hello,omitempty"`
	Progress *Progress    `json:"progress,omitempty"`
	Beat     *Beat        `json:"beat,omitempty"`
	Stacks   *stacks      `json:"stacks,omitempty"`
	Metrics  Metrics      `json:"metrics,omitempty"`
	Error    *ErrorReport `json:"error,omitempty"`
	Done     *Done        `json:"done,omitempty"`
	Request  *Request     `json:"request,omitempty"`
}

// trace asks a worker for the stacks of its goroutines.
type trace struct{}

// stacks answers a trace.
type stacks struct {
	Text string `json:"text"`
}
