package launch

import (
	"math"
	"path/filepath"
	"time"

	"github.com/ddprun/ddprun/launch/pipe"
)

// Status is a run as its agent sees it, for `ddprun status` and Prometheus.
type Status struct {
	RunID      string    `json:"run_id"`
	OutputDir  string    `json:"output_dir,omitempty"`
	Host       string    `json:"host"` // of the agent that answers
	PID        int       `json:"pid"`  // its
	Began      time.Time `json:"began"`
	Seconds    float64   `json:"seconds"` // since then, by a clock that is not set
	Generation int       `json:"generation"`
	Restarts   int       `json:"restarts"`
	World      int       `json:"world_size"`

	Nodes   []NodeStatus `json:"nodes"`
	Ranks   []RankStatus `json:"ranks"`             // in order
	Metrics pipe.Metrics `json:"metrics,omitempty"` // as rank 0 has told them last; empty where it is on another node that has not said so
}

// NodeStatus is a node of the run.
type NodeStatus struct {
	Host      string `json:"host"`
	FirstRank int    `json:"first_rank"`
	Ranks     int    `json:"ranks"`
	State     string `json:"state"` // running, or why not
}

// RankStatus is a rank of the run.
type RankStatus struct {
	Rank         int        `json:"rank"`
	Host         string     `json:"host"`
	PID          int        `json:"pid"`
	Up           bool       `json:"up"`
	Phase        pipe.Phase `json:"phase,omitempty"`
	Step         int64      `json:"step"`
	Checkpoint   int64      `json:"checkpoint"` // the newest that it knows of; rank 0 knows
	Doing        string     `json:"doing,omitempty"`
	Waiting      bool       `json:"waiting,omitempty"`       // for other ranks
	BeatSeconds  float64    `json:"seconds_since_beat"`      // -1: it has not beaten yet
	MovedSeconds float64    `json:"seconds_since_progress"`  // -1
	State        string     `json:"process_state,omitempty"` // R, S, D, T, ... of proc_pid_stat(5)
}

// Value returns one of the training's numbers, as metrics.jsonl names them.
func (s Status) Value(name string) (float64, bool) {
	x, ok := s.Metrics[name]
	return x, ok
}

// Slow is the rank that is named as slow; -1: none is.
func (s Status) Slow() int {
	if x, ok := s.Metrics["slow_rank"]; ok {
		return int(x)
	}
	return -1
}

// Up counts the ranks that run.
func (s Status) Up() int {
	n := 0
	for _, r := range s.Ranks {
		if r.Up {
			n++
		}
	}
	return n
}

// Checkpoint is the step of the newest checkpoint that a rank knows of.
func (s Status) Checkpoint() int64 {
	newest := int64(0)
	for _, r := range s.Ranks {
		newest = max(newest, r.Checkpoint)
	}
	return newest
}

// status is what this node's agent knows.
func (r *run) status() Status {
	out := r.OutputDir
	if path, err := filepath.Abs(out); err == nil && out != "" {
		out = path
	}
	s := Status{RunID: r.RunID, OutputDir: out, Host: r.host, PID: r.pid, Began: r.began, Seconds: time.Since(r.began).Seconds(), Generation: -1}
	a := r.shown.Load()
	if a == nil {
		return s
	}
	s.Generation, s.Restarts, s.World = a.number, a.restarts, r.NProc
	for _, w := range a.workers {
		rank, metrics := w.status()
		rank.Host = r.host
		s.Ranks = append(s.Ranks, rank)
		if w.start.Rank == 0 {
			s.Metrics = metrics
		}
	}
	node := NodeStatus{Host: r.host, Ranks: len(a.workers), State: "running"}
	if s.Up() < len(a.workers) {
		node.State = "stopping"
	}
	s.Nodes = []NodeStatus{node}
	return s
}

func (w *worker) status() (RankStatus, pipe.Metrics) {
	report := w.agent.Report()
	s := RankStatus{
		Rank: w.start.Rank, PID: w.process.Pid, Up: !w.gone(), Phase: report.Progress.Phase, Step: report.Progress.Step, Checkpoint: report.Progress.Checkpoint,
		Doing: report.Latest.Doing, Waiting: report.Latest.Waiting, BeatSeconds: ago(report.Beat), MovedSeconds: ago(report.Moved),
	}
	if p, ok := readStat(w.process.Pid); ok && s.Up {
		s.State = string(p.state)
	}
	return s, report.Metrics
}

// ago is how many seconds ago at was, -1 for never.
func ago(at time.Time) float64 {
	if at.IsZero() {
		return -1
	}
	return math.Round(time.Since(at).Seconds()*1000) / 1000
}
