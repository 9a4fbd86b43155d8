package launch

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ddprun/ddprun/launch/agree"
)

// fleet is agents of one run, each a process with a port of its own on loopback.
type fleet struct {
	t      *testing.T
	config agentConfig
	agents []*agentProcess
}

// testNodes is the part of Nodes that a test agent is given.
type testNodes struct {
	MinNodes, MaxNodes, NodeRank, Port int
	Join                               []string
	Key                                []byte
	Lease, LastCall                    time.Duration
	Remedy                             string
}

func (n testNodes) nodes() Nodes {
	return Nodes{MinNodes: n.MinNodes, MaxNodes: n.MaxNodes, NodeRank: n.NodeRank, Port: n.Port, Join: n.Join, Key: n.Key,
		Lease: n.Lease, LastCall: n.LastCall, Remedy: n.Remedy, RemedyAfter: time.Second, Listen: "127.0.0.1", Advertise: "127.0.0.1", JoinTimeout: 20 * time.Second, RejoinTimeout: 20 * time.Second}
}

func newFleet(t *testing.T, s scripts, nproc, min, max int) *fleet {
	t.Helper()
	if testing.Short() {
		t.Skip("starts several agents")
	}
	f := &fleet{t: t, config: agentConfig{Scripts: s, NProc: nproc, OutputDir: filepath.Join(t.TempDir(), "out"), RunID: "test-" + randomHex(8), MaxRestarts: 3}}
	f.config.Nodes = testNodes{MinNodes: min, MaxNodes: max, Key: []byte("a key for tests, of some length"), Lease: 2 * time.Second, LastCall: 500 * time.Millisecond}
	f.config.Nodes.Join = []string{fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	return f
}

// freePort returns a port that is free at the moment.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// start starts one more agent. The first one listens where all look for the others.
func (f *fleet) start() *agentProcess {
	f.t.Helper()
	c := f.config
	c.Nodes.NodeRank = len(f.agents)
	if len(f.agents) == 0 {
		fmt.Sscanf(f.config.Nodes.Join[0], "127.0.0.1:%d", &c.Nodes.Port)
	} else {
		c.Nodes.Port = freePort(f.t)
	}
	p := startAgentTo(f.t, c, nil)
	f.agents = append(f.agents, p)
	return p
}

func (f *fleet) startAll(n int) {
	for range n {
		f.start()
	}
}

// await waits until every one of the agents has said text n times.
func (f *fleet) await(text string, n int) {
	f.t.Helper()
	for _, a := range f.agents {
		a.await(text, n)
	}
}

// codes waits for the end of all agents.
func (f *fleet) codes(want ...int) {
	f.t.Helper()
	for i, a := range f.agents {
		if code := a.code(); code != want[i] {
			f.t.Errorf("agent %d: exit code %d, want %d", i, code, want[i])
		}
	}
	if f.t.Failed() {
		for i, a := range f.agents {
			f.t.Logf("agent %d:\n%s", i, a.out.String())
		}
	}
	if pids := left(f.config.RunID); len(pids) > 0 {
		f.t.Errorf("processes %v are left", pids)
	}
}

// outcome reads outcome.json.
func (f *fleet) outcome() (o agree.Outcome) {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.config.OutputDir, ".ddprun", outcomeName))
	if err == nil {
		err = json.Unmarshal(data, &o)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return o
}

func TestNodesFindEachOtherAndFinish(t *testing.T) {
	f := newFleet(t, scripts{{"facts; set a; get b; done", "get a; done", "facts; set b; done"}}, 2, 2, 2)
	f.startAll(2)
	f.codes(0, 0)
	for i, want := range []string{"Rank:0 LocalRank:0 WorldSize:4 LocalWorldSize:2 NodeRank:0 NodeCount:2", "Rank:2 LocalRank:0 WorldSize:4 LocalWorldSize:2 NodeRank:1 NodeCount:2"} {
		if out := f.agents[i].out.String(); !strings.Contains(out, want) {
			t.Errorf("agent %d does not say %q:\n%s", i, want, out)
		}
	}
	if o := f.outcome(); o.Code != ExitDone || o.Generation != 0 {
		t.Errorf("outcome %+v", o)
	}
	f.start() // a node that comes when all is done
	f.codes(0, 0, 0)
	if out := f.agents[2].out.String(); strings.Contains(out, "workers started") {
		t.Errorf("it started workers:\n%s", out)
	}
}

func TestWorkersFailureRestartsAllNodes(t *testing.T) {
	f := newFleet(t, scripts{{"train", "set up; raw \"the end\\n\"; error disk full; exit 5"}, {"set again; done", "get again; done"}}, 1, 2, 2)
	f.startAll(2)
	f.codes(0, 0)
	for i, a := range f.agents {
		out := a.out.String()
		if strings.Count(out, "workers started") != 2 || !strings.Contains(out, "disk full") || !strings.Contains(out, "the end") {
			t.Errorf("agent %d:\n%s", i, out)
		}
	}
	if _, err := os.Stat(filepath.Join(f.config.OutputDir, "logs", "attempt_0", "1", "error.json")); err != nil {
		t.Error(err)
	}
}

func TestFailureEndsAllNodes(t *testing.T) {
	f := newFleet(t, scripts{{"train", "permanent the loss is NaN; exit 1"}}, 1, 2, 2)
	f.startAll(2)
	f.codes(ExitFailed, ExitFailed)
	if o := f.outcome(); o.Code != ExitFailed || o.Failure == nil || o.Failure.Rank != 1 {
		t.Errorf("outcome %+v", o)
	}
}

func TestLostNodeDoesNotEndTheRun(t *testing.T) {
	for lost, name := range []string{"the coordinator", "another"} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, scripts{{"facts; print up; train"}}, 1, 1, 2)
			f.startAll(2)
			f.await("] up", 1)
			f.agents[lost].signal(syscall.SIGKILL)
			other := f.agents[1-lost]
			other.await("WorldSize:1", 1)
			other.signal(syscall.SIGTERM)
			if code := other.code(); code != ExitComeAgain {
				t.Errorf("exit code %d\n%s", code, other.out.String())
			}
		})
	}
}

// TestRemedyOfALostNode: one of the others says what brings a lost node back, unless it is back.
func TestRemedyOfALostNode(t *testing.T) {
	f := newFleet(t, scripts{{"print up; train"}}, 1, 2, 4)
	f.config.Nodes.Remedy = "kick it"
	f.startAll(4)
	f.await("] up", 1)
	f.agents[2].signal(syscall.SIGTERM) // it leaves: nothing is lost
	f.agents[2].code()
	f.agents[1].signal(syscall.SIGKILL)
	f.agents[0].await(`"host":"`+hostname(t)+`","remedy":"kick it"`, 1)
	f.agents[0].signal(syscall.SIGTERM)
	f.agents[3].signal(syscall.SIGTERM)
	f.agents[0].code()
	f.agents[3].code()
	said := ""
	for _, a := range f.agents {
		for line := range strings.Lines(a.out.String()) {
			if strings.Contains(line, "kick it") {
				said += line
			}
		}
	}
	if strings.Count(said, "\n") != 1 || !strings.Contains(said, `"node":"1-`) {
		t.Errorf("said:\n%s", said)
	}
}

func TestSameSeat(t *testing.T) {
	at := func(rank int, host string) agree.Node { return agree.Node{Rank: rank, Host: host} }
	for _, c := range []struct {
		a, b agree.Node
		want bool
	}{{at(1, "a"), at(1, "b"), true}, {at(1, "a"), at(2, "a"), false}, {at(-1, "a"), at(-1, "a"), true}, {at(-1, "a"), at(-1, "b"), false}, {at(-1, "a"), at(0, "a"), false}} {
		if got := sameSeat(c.a, c.b); got != c.want {
			t.Errorf("%+v, %+v: %v", c.a, c.b, got)
		}
	}
}

func hostname(t *testing.T) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestLeaving(t *testing.T) {
	f := newFleet(t, scripts{{"facts; print up; train"}}, 1, 1, 3)
	f.startAll(3)
	f.await("] up", 1)
	f.agents[0].signal(syscall.SIGTERM) // the coordinator
	if code := f.agents[0].code(); code != ExitComeAgain {
		t.Errorf("exit code %d\n%s", code, f.agents[0].out.String())
	}
	for _, a := range f.agents[1:] {
		a.await("WorldSize:2", 1)
		a.signal(syscall.SIGTERM)
	}
	f.agents = f.agents[1:]
	f.codes(ExitComeAgain, ExitComeAgain)
}

func TestLateNodeJoins(t *testing.T) {
	f := newFleet(t, scripts{{"facts; print up; train"}}, 1, 1, 2)
	f.start()
	f.agents[0].await("WorldSize:1", 1)
	f.start()
	f.await("WorldSize:2", 1)
	for _, a := range f.agents {
		a.signal(syscall.SIGUSR1)
	}
	f.codes(ExitComeAgain, ExitComeAgain)
}

func TestSameRunAgainGoesOnWithHigherNumbers(t *testing.T) {
	f := newFleet(t, scripts{{"print up; train"}}, 1, 2, 2)
	f.startAll(2)
	f.await("] up", 1)
	for _, a := range f.agents {
		a.signal(syscall.SIGKILL)
		a.code()
	}
	f.agents = nil
	f.config.Scripts = scripts{{"facts; done"}}
	f.config.Nodes.Join = []string{fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	f.startAll(2)
	f.codes(0, 0)
	if o := f.outcome(); o.Generation < 1 {
		t.Errorf("outcome %+v", o)
	}
}
