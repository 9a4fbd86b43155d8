package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/launch"
	"github.com/ddprun/ddprun/launch/pipe"
)

func TestPrintStatus(t *testing.T) {
	var b bytes.Buffer
	printStatus(&b, launch.Status{
		RunID: "ddprun-1", OutputDir: "/out", Host: "a", PID: 7, Seconds: 200.4, Generation: 2, Restarts: 1, World: 3,
		Nodes: []launch.NodeStatus{{Host: "a", Ranks: 2, State: "running"}, {Host: "b", FirstRank: 2, Ranks: 1, State: "lost"}},
		Ranks: []launch.RankStatus{
			{Rank: 0, Host: "a", PID: 8, Up: true, Phase: pipe.PhaseTrain, Step: 120, Checkpoint: 100, BeatSeconds: 0.34, MovedSeconds: 12.7, Doing: "forward and backward"},
			{Rank: 1, Host: "a", PID: 9, Up: true, State: "T", BeatSeconds: -1, MovedSeconds: -1},
			{Rank: 2, Host: "b", PID: 10},
		},
		Metrics: pipe.Metrics{"total_steps": 500, "loss": 3.25, "epoch": 1.5, "tokens_per_second": 5120.4, "slow_rank": 1},
	})
	want := `run ddprun-1 (agent 7 on a), up 3m20s
output_dir /out
generation 2, 3 ranks on 2 nodes, started again 1 time
step 120 of 500, epoch 1.50, loss 3.2500, 5120 tokens/s, newest checkpoint at 100
slow: rank 1 (a)

NODE  RANKS  STATE
a     0-1    running
b     2      lost

RANK  HOST  PID  PHASE    STEP  BEAT       PROGRESS  DOING
0     a     8    train    120   300ms ago  13s ago   forward and backward
1     a     9    stopped  0     -          -         
2     b     10   ended    0     0s ago     0s ago    
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	b.Reset()
	printStatus(&b, launch.Status{RunID: "r", Generation: -1})
	if !strings.Contains(b.String(), "no workers yet") {
		t.Error(b.String())
	}
}

func TestStatusOfNobody(t *testing.T) {
	workplace(t)
	for _, args := range [][]string{{"status", "train.yaml"}, {"status", "."}} {
		got := ddprun(t, nil, args...)
		if got.code != 1 || !strings.Contains(got.stderr, "answers on this machine") || got.stdout != "" {
			t.Errorf("%v: %+v", args, got)
		}
	}
	if got := ddprun(t, nil, "status", "nowhere.yaml"); got.code != 78 || !strings.Contains(got.stderr, "nowhere.yaml") {
		t.Errorf("%+v", got)
	}
}
