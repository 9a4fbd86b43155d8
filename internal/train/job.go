package train

import (
	"cmp"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/ddprun/ddprun/internal/checkpoint"
	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/internal/torch"
	"github.com/ddprun/ddprun/objectives"
	"github.com/ddprun/ddprun/shard"
)

// Job is a rank's part of a run. Everything in it is borrowed.
type Job struct {
	Config *config.Config

	Rank, World, Threads  int
	MinWorld, MaxWorld    int    // what World may be in other generations of this run; 0: World
	LocalRank, LocalWorld int    // rank among the ranks of this node, and their number; 0: 1
	NodeCount             int    // 0: 1
	Nodes                 []Node // of all ranks, to name peers in errors; may be empty
	Generation            uint64
	RunID                 string      // the same in all generations of a run
	Store                 torch.Store // nil where World is 1
	Host                  string      // this node's address, for the peers

	Train      *shard.Dataset
	Eval       []EvalSet
	Objectives *objectives.Mixture
	PlansDir   string // keeps the plans of micro-batches that are cut by tokens

	place place // of its tensors; settle chooses it

	Log  zerolog.Logger
	Stop <-chan struct{} // closed when the run shall stop with a checkpoint
	// MayWrite is an error once this rank must write nothing any more: its lease has passed. nil: it always may.
	MayWrite func() error
	// Beat tells the launcher that this rank is alive: what it does, the steps done, and the step of the last complete checkpoint.
	Beat func(phase Phase, step, checkpoint int64)
	// Metrics, if not nil, is told on rank 0 what metrics.jsonl gets of numbers, and total_steps.
	Metrics func(map[string]float64)
	// Activity, if not nil, is kept up to date with what this rank does in between.
	Activity *Activity
}

// Node is where some of a run's ranks are.
type Node struct {
	ID               string // of its agent's process
	Name, Address    string
	FirstRank, Ranks int
}

// least and most are the bounds of the number of ranks.
func (job *Job) least() int { return cmp.Or(job.MinWorld, job.World) }
func (job *Job) most() int  { return max(job.MaxWorld, job.World) }

// mayWrite is an error once this rank must write nothing any more.
func (job *Job) mayWrite() error {
	if job.MayWrite == nil {
		return nil
	}
	return mark(ErrPeer, job.MayWrite())
}

// tell passes the numbers of an entry on to who wants to know them.
func (job *Job) tell(entry map[string]any) {
	if job.Metrics == nil {
		return
	}
	numbers := map[string]float64{}
	for name, v := range entry {
		switch v := v.(type) {
		case float64:
			numbers[name] = v
		case int64:
			numbers[name] = float64(v)
		case int:
			numbers[name] = float64(v)
		}
	}
	job.Metrics(numbers)
}

// EvalSet is held-out text. Name is empty for the only one.
type EvalSet struct {
	Name    string
	Samples *shard.Dataset
}

// Phase is what a rank is doing.
type Phase string

// The phases of a run.
const (
	PhaseSetup      Phase = "setup"
	PhaseTrain      Phase = "train"
	PhaseEvaluate   Phase = "evaluate"
	PhaseCheckpoint Phase = "checkpoint"
)

// Result is how a run ended without an error.
type Result struct {
	Step    int64
	Stopped bool // on request before the end; with a checkpoint, if anything was done since the beginning
}

// The kinds of failure that a launcher treats apart; test with errors.Is.
var (
	// ErrInput: the configuration, the model or the output directory is wrong; nothing was started.
	ErrInput = errors.New("wrong input")
	// ErrPermanent: starting again would fail in the same way.
	ErrPermanent = errors.New("permanent failure")
	// ErrPeer: a collective operation failed, so another rank is the cause.
	ErrPeer = errors.New("lost a peer")
)

// kindError marks err as of a kind without changing its message.
type kindError struct {
	kind, err error
}

func (e kindError) Error() string   { return e.err.Error() }
func (e kindError) Unwrap() []error { return []error{e.kind, e.err} }

func mark(kind, err error) error {
	if err == nil {
		return nil
	}
	return kindError{kind, err}
}

// Quiesce waits, at most for limit, until this rank is in no midst of putting files into place, and keeps it from beginning to until release is called. A process that must end at
// once calls it before it does.
func Quiesce(limit time.Duration) (release func()) { return checkpoint.Quiesce(limit) }
