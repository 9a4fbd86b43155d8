package launch

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ddprun/ddprun/launch/agree"
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
	Phase      string    `json:"phase,omitempty"`       // of the agent: waiting, running, ...
	Waiting    string    `json:"waiting_for,omitempty"` // what keeps the next generation from starting

	Nodes   []NodeStatus `json:"nodes"`
	Ranks   []RankStatus `json:"ranks"`             // in order
	Metrics pipe.Metrics `json:"metrics,omitempty"` // as rank 0 has told them last; empty where it is on another node that has not said so
}

// NodeStatus is a node of the run.
type NodeStatus struct {
	ID        string `json:"id"`
	Host      string `json:"host"`
	FirstRank int    `json:"first_rank"` // -1: it has none in this generation
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

// status is what this node's agent knows: the whole run as far as agents have agreed, and the ranks of this node.
func (r *run) status() Status {
	out := r.OutputDir
	if path, err := filepath.Abs(out); err == nil && out != "" {
		out = path
	}
	s := Status{RunID: r.RunID, OutputDir: out, Host: r.self.Host, PID: os.Getpid(), Began: r.began, Seconds: time.Since(r.began).Seconds(), Generation: -1}
	if v := r.view.Load(); v != nil {
		s.Phase, s.Waiting = v.Phase, v.Waiting
		if v.Record != nil {
			s.Generation, s.Restarts, s.World = v.Record.Number, v.Record.Restarts, v.Record.World
		}
		for _, n := range v.Nodes {
			s.Nodes = append(s.Nodes, nodeStatus(n, n.ID == r.self.ID))
		}
	}
	a := r.shown.Load()
	if a == nil || a.record.Number != s.Generation {
		return s
	}
	for _, w := range a.workers {
		rank, metrics := w.status()
		rank.Host = r.self.Host
		s.Ranks = append(s.Ranks, rank)
		if w.start.Rank == 0 {
			s.Metrics = metrics
		}
	}
	return s
}

// nodeStatus says how a node is, as this agent sees it.
func nodeStatus(n agree.NodeView, self bool) NodeStatus {
	s := NodeStatus{ID: n.ID, Host: n.Host, FirstRank: n.FirstRank, State: "waiting"}
	if n.Member {
		s.Ranks = n.NProc
	}
	switch {
	case n.Gone:
		s.State = "gone"
	case !self && !n.Connected:
		s.State = "lost"
	case n.ExcludedUntil > 0:
		s.State = fmt.Sprintf("left out for %.0fs, since it was lost again and again", float64(n.ExcludedUntil))
	case n.Leaving:
		s.State = "leaving"
	case n.Generation >= 0:
		s.State = "running"
	}
	return s
}

// gatherWithin bounds how long the other agents are waited for.
const gatherWithin = 2 * time.Second

// wholeStatus is status with the ranks of the other nodes, which their agents are asked for.
func (r *run) wholeStatus() Status {
	s := r.status()
	if r.peers == nil {
		return s
	}
	ctx, cancel := context.WithTimeout(context.Background(), gatherWithin)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	for i, n := range s.Nodes {
		if n.ID == r.self.ID || n.Ranks == 0 {
			continue
		}
		all.Go(func() {
			var its Status
			if err := r.peers.call(ctx, n.ID, callStatus, nil, &its); err != nil || its.Generation != s.Generation {
				return // what this agent knows of the node tells
			}
			mu.Lock()
			defer mu.Unlock()
			for _, itself := range its.Nodes {
				if itself.ID == n.ID {
					s.Nodes[i].State = itself.State
				}
			}
			s.Ranks = append(s.Ranks, its.Ranks...)
			if len(its.Metrics) > 0 {
				s.Metrics = its.Metrics
			}
		})
	}
	all.Wait()
	slices.SortFunc(s.Ranks, func(a, b RankStatus) int { return a.Rank - b.Rank })
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
