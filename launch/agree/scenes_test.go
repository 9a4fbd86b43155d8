package agree

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// newScene is a world without faults in which n hosts boot at once.
func newScene(t *testing.T, n int, c Config) *sim {
	s := &sim{seed: 1, r: rand.New(rand.NewPCG(1, 1)), byID: map[string]*process{}, worlds: map[int]*world{}, codes: map[int][]string{}, firsts: map[int]map[string]string{}}
	s.net.cut, s.net.paths = map[[2]int]int{}, map[[2]int]bool{}
	s.fs = files{s: s, begun: map[int]int64{}, slow: map[int]bool{}, failing: map[int]bool{}, hung: map[int]bool{}}
	c.RunID, c.Digest = "run", "d"
	if c.MaxNodes == 0 {
		c.MinNodes, c.MaxNodes = n, n
	}
	for _, d := range []*time.Duration{&c.JoinTimeout, &c.RejoinTimeout} {
		if *d == 0 {
			*d = 10 * time.Minute
		}
	}
	s.c, s.total, s.wire = c, 100, true
	for i := range n {
		s.hosts = append(s.hosts, &host{i: i, rank: i})
	}
	for _, h := range s.hosts {
		s.after(0, func() { s.boot(h) })
	}
	t.Cleanup(func() {
		if s.broken != "" || t.Failed() {
			t.Error(s.report())
		}
	})
	return s
}

// until runs to a moment.
func (s *sim) until(at time.Duration) { s.run(at); s.now = max(s.now, at) }

// members are the hosts of the highest generation.
func (s *sim) members() []int {
	var hosts []int
	for _, member := range s.fs.records[len(s.fs.records)-1].Members {
		hosts = append(hosts, s.byID[member.ID].host.i)
	}
	return hosts
}

func (s *sim) top() *Record { return &s.fs.records[len(s.fs.records)-1] }

func (s *sim) expectMembers(t *testing.T, number int, hosts ...int) {
	t.Helper()
	if len(s.fs.records) == 0 || s.top().Number != number || !slices.Equal(s.members(), hosts) {
		t.Fatalf("the highest generation is %+v, not %d of hosts %v", s.fs.records, number, hosts)
	}
}

// expectEnd runs to the end and checks that all have exited with one code.
func (s *sim) expectEnd(t *testing.T, code int) {
	t.Helper()
	s.run(s.now + 30*time.Minute)
	if len(s.codes) != 1 || len(s.codes[code]) == 0 {
		t.Fatalf("agents have exited with %v, not with %d", s.codes, code)
	}
	if code == codeDone && s.fs.newest() != s.total {
		t.Fatalf("the newest checkpoint is %d", s.fs.newest())
	}
}

func (s *sim) fail(host int, f Failure) {
	p := s.hosts[host].p
	p.jobs[len(p.jobs)-1].fail(f)
}

// TestGather: the most that may be members start at once; fewer when nobody new has come for the last call.
func TestGather(t *testing.T) {
	s := newScene(t, 3, Config{})
	s.until(2 * time.Second)
	s.expectMembers(t, 0, 0, 1, 2)
	s.expectEnd(t, codeDone)

	s = newScene(t, 4, Config{MinNodes: 2, MaxNodes: 4, LastCall: 5 * time.Second})
	s.hosts[3].away = true
	late := s.hosts[2]
	late.away = true
	s.after(3*time.Second, func() { late.away = false; s.boot(late) })
	s.until(7500 * time.Millisecond)
	if len(s.fs.records) != 0 {
		t.Fatal("it started before the last call was over")
	}
	s.until(10 * time.Second)
	s.expectMembers(t, 0, 0, 1, 2)
	s.expectEnd(t, codeDone)
}

// TestRestartAtOnce: a failed worker costs no waiting, and every node is told which one it was: not of the echoes.
func TestRestartAtOnce(t *testing.T) {
	s := newScene(t, 3, Config{MaxRestarts: 1})
	s.until(5 * time.Second)
	s.fail(0, Failure{Echo: 2, ExitCode: 1, Message: "connection closed by peer"})
	s.fail(2, Failure{Echo: 1, ExitCode: 1, Message: "out of memory"})
	s.until(6100 * time.Millisecond) // workers take up to a second to end
	s.expectMembers(t, 1, 0, 1, 2)
	s.until(7 * time.Second)
	if !s.worlds[1].begun {
		t.Error("the next generation has not begun")
	}
	for _, h := range s.hosts {
		if got := s.firsts[0][h.p.node.ID]; got != "out of memory" {
			t.Errorf("%s was told of %q", h.p.node.ID, got)
		}
	}
	s.fail(1, Failure{Echo: 1, ExitCode: 1, Message: "again"})
	s.expectEnd(t, codeFailed)
	if o := s.fs.outcome; o.Failure == nil || o.Failure.Message != "again" || !strings.Contains(o.Reason, "used up") {
		t.Errorf("outcome %+v", o)
	}
}

// TestWrongConfiguration: it goes before failures that came earlier.
func TestWrongConfiguration(t *testing.T) {
	s := newScene(t, 3, Config{MaxRestarts: 5})
	s.until(5 * time.Second)
	s.fail(0, Failure{Echo: 1, ExitCode: 1, Message: "no answer"})
	s.fail(1, Failure{Echo: 0, ExitCode: codeConfig, Message: "no such column"})
	s.expectEnd(t, codeConfig)
	if s.fs.outcome.Failure.Message != "no such column" {
		t.Errorf("outcome %+v", s.fs.outcome)
	}
}

// TestNodeLost: a new agent takes the place of one that was killed, and the ranks of the others stay.
func TestNodeLost(t *testing.T) {
	for victim := range 3 {
		for _, declared := range []bool{true, false} {
			s := newScene(t, 3, Config{})
			for _, h := range s.hosts {
				if !declared {
					h.rank = -1
				}
			}
			s.until(5 * time.Second)
			before := s.members()
			v := s.hosts[victim]
			s.crash(v.p)
			s.after(2*time.Second, func() { s.boot(v) })
			s.until(14 * time.Second)
			s.expectMembers(t, 1, before...)
			if got := s.top().Restarts; got != 0 {
				t.Errorf("a lost node counts as %d restarts", got)
			}
			s.expectEnd(t, codeDone)
		}
	}
}

// TestOneSurvives: of two nodes one goes on, and eight scale to three.
func TestOneSurvives(t *testing.T) {
	for victim := range 2 {
		s := newScene(t, 2, Config{MinNodes: 1, MaxNodes: 2, LastCall: time.Second})
		s.until(5 * time.Second)
		s.crash(s.hosts[victim].p)
		s.hosts[victim].away = true
		s.until(16 * time.Second)
		s.expectMembers(t, 1, 1-victim)
		s.expectEnd(t, codeDone)
	}
	s := newScene(t, 8, Config{MinNodes: 2, MaxNodes: 8, LastCall: time.Second})
	s.until(5 * time.Second)
	for _, i := range []int{0, 1, 3, 5, 7} {
		s.crash(s.hosts[i].p)
		s.hosts[i].away = true
	}
	s.until(20 * time.Second)
	s.expectMembers(t, 1, 2, 4, 6)
	s.expectEnd(t, codeDone)
}

// TestEverythingAgain: after all were killed the run goes on, not before the leases of the killed are over, and the budget is kept.
func TestEverythingAgain(t *testing.T) {
	s := newScene(t, 3, Config{MaxRestarts: 1})
	s.until(4 * time.Second)
	s.fail(1, Failure{Echo: 1, ExitCode: 1, Message: "crash"})
	s.until(8 * time.Second)
	s.expectMembers(t, 1, 0, 1, 2)
	for _, h := range s.hosts {
		s.crash(h.p)
		s.after(time.Second, func() { s.boot(h) })
	}
	s.until(20 * time.Second)
	s.expectMembers(t, 2, 0, 1, 2)
	if s.top().Restarts != 1 {
		t.Errorf("restarts %d", s.top().Restarts)
	}
	s.fail(1, Failure{Echo: 1, ExitCode: 1, Message: "crash"})
	s.expectEnd(t, codeFailed)
}

// TestLeaveSome: who leaves exits with 75 after a checkpoint, the others go on, whoever it was.
func TestLeaveSome(t *testing.T) {
	for leaver := range 3 {
		s := newScene(t, 3, Config{MinNodes: 2, MaxNodes: 3, LastCall: 2 * time.Second})
		s.until(5 * time.Second)
		p := s.hosts[leaver].p
		s.hosts[leaver].away = true
		s.leave(p)
		s.until(14 * time.Second)
		if p.alive {
			t.Fatalf("%s has not left", p.node.ID)
		}
		var rest []int
		for i := range 3 {
			if i != leaver {
				rest = append(rest, i)
			}
		}
		s.expectMembers(t, 1, rest...)
		if r := s.top(); r.Restarts != 0 || r.Barren != 0 || r.Start != s.saved(0) || r.Start == 0 {
			t.Errorf("after leaving: %+v", r)
		}
		s.expectEnd(t, codeDone)
	}
}

// TestLeaversReturn: where those who leave come again, a run of exactly three waits for the third, whoever it was, and ends with 75 only when it does not come.
func TestLeaversReturn(t *testing.T) {
	for leaver := range 3 {
		s := newScene(t, 3, Config{LeaversReturn: true})
		s.until(5 * time.Second)
		var before []*process
		for _, h := range s.hosts {
			before = append(before, h.p)
		}
		s.leave(s.hosts[leaver].p)
		s.until(20 * time.Second)
		s.expectMembers(t, 1, 0, 1, 2)
		for i, h := range s.hosts {
			if same := h.p == before[i]; same == (i == leaver) {
				t.Errorf("node %d has left, and node %d has the agent that it had: %t", leaver, i, same)
			}
		}
		if r := s.top(); r.Restarts != 0 || r.Barren != 0 || len(r.Losses) > 0 || r.Start == 0 {
			t.Errorf("after leaving: %+v", r)
		}
		s.expectEnd(t, codeDone)
	}
	s := newScene(t, 3, Config{LeaversReturn: true, RejoinTimeout: 20 * time.Second})
	s.until(5 * time.Second)
	for _, h := range s.hosts {
		h.away = true
	}
	s.leave(s.hosts[1].p)
	s.until(20 * time.Second)
	if s.hosts[0].p == nil || s.hosts[2].p == nil || s.hosts[1].p != nil {
		t.Fatal("two of three do not wait for the third")
	}
	s.until(50 * time.Second)
	if s.hosts[0].p != nil || s.hosts[2].p != nil {
		t.Error("they wait for longer than they should")
	}
}

// TestLeaveAll: also where too few would remain.
func TestLeaveAll(t *testing.T) {
	for _, leavers := range []int{1, 3} {
		s := newScene(t, 3, Config{})
		s.until(5 * time.Second)
		var codes []int
		for _, h := range s.hosts {
			h.away = true
			if h.i < leavers {
				s.leave(h.p)
			}
		}
		s.until(15 * time.Second)
		for _, h := range s.hosts {
			if h.p != nil {
				t.Fatalf("%s is still there", h.p.node.ID)
			}
		}
		if o := s.fs.outcome; o == nil || o.Code != codeComeAgain || o.Step == 0 || o.Step != s.saved(0) {
			t.Errorf("outcome %+v %v", o, codes)
		}
	}
}

// TestLeaveEarly: before any workers have started an agent leaves at once.
func TestLeaveEarly(t *testing.T) {
	s := newScene(t, 3, Config{})
	s.hosts[2].away = true
	s.until(5 * time.Second)
	p := s.hosts[1].p
	s.hosts[1].away = true
	s.leave(p)
	if p.alive {
		t.Error("it has not left at once")
	}
}

// TestNewcomer: the run is resized with a checkpoint, and nothing is counted.
func TestNewcomer(t *testing.T) {
	s := newScene(t, 4, Config{MinNodes: 1, MaxNodes: 4, LastCall: 2 * time.Second})
	late := s.hosts[2:]
	for _, h := range late {
		h.away = true
		s.after(6*time.Second+time.Duration(h.i)*500*time.Millisecond, func() { h.away = false; s.boot(h) })
	}
	s.until(5 * time.Second)
	s.expectMembers(t, 0, 0, 1)
	s.until(14 * time.Second)
	s.expectMembers(t, 1, 0, 1, 2, 3) // both in one resize
	if r := s.top(); r.Restarts != 0 || r.Barren != 0 || r.Start != s.saved(0) {
		t.Errorf("after a resize: %+v", r)
	}
	s.expectEnd(t, codeDone)
}

// TestSpare: where all places are taken an agent waits, and takes the place of one that is lost.
func TestSpare(t *testing.T) {
	s := newScene(t, 3, Config{MinNodes: 2, MaxNodes: 2, JoinTimeout: 20 * time.Second})
	for _, h := range s.hosts {
		h.rank = -1
	}
	s.total = 400
	s.until(40 * time.Second)
	if len(s.fs.records) != 1 || s.codes[codeFailed] != nil {
		t.Fatalf("%d generations, codes %v", len(s.fs.records), s.codes)
	}
	lost := s.members()[1]
	s.hosts[lost].away = true
	s.crash(s.hosts[lost].p)
	s.until(52 * time.Second)
	if s.top().Number != 1 || slices.Contains(s.members(), lost) {
		t.Fatalf("%+v", s.top())
	}
	s.expectEnd(t, codeDone)
}

// TestSameRankTwice: the one that runs stays as long as it is heard, then the other takes its place.
func TestSameRankTwice(t *testing.T) {
	s := newScene(t, 4, Config{MinNodes: 3, MaxNodes: 3})
	s.total = 400
	other := s.hosts[3]
	other.rank, other.away = 1, true
	s.after(5*time.Second, func() { other.away = false; s.boot(other) })
	s.until(15 * time.Second)
	s.expectMembers(t, 0, 0, 1, 2)
	if !strings.Contains(other.p.m.View().Waiting, "node rank 1 is taken") && other.p.m.View().Waiting != "" {
		t.Errorf("it waits for %q", other.p.m.View().Waiting)
	}
	s.hosts[1].away = true
	for _, h := range s.hosts { // cut off, not dead
		if h.i != 1 {
			s.block(1, h.i, 1)
			s.block(h.i, 1, 1)
		}
	}
	s.until(30 * time.Second)
	s.expectMembers(t, 1, 0, 3, 2)
	s.expectEnd(t, codeDone)
}

// TestExcluded: a node that fails three times is left out for ten minutes, even where the run made no progress.
func TestExcluded(t *testing.T) {
	for _, bad := range []int{0, 2} {
		s := newScene(t, 3, Config{MinNodes: 2, MaxNodes: 3, MaxRestarts: 10, LastCall: time.Second})
		s.total = 8000
		for i := range 3 {
			for s.worlds[i] == nil || len(s.worlds[i].jobs) < 3 {
				s.until(s.now + 100*time.Millisecond)
			}
			s.fail(bad, Failure{Echo: 1, ExitCode: 1, Message: "broken"})
		}
		s.until(s.now + 60*time.Second)
		if s.broken != "" || slices.Contains(s.members(), bad) || len(s.members()) != 2 || len(s.top().Excluded) != 1 {
			t.Fatalf("node %d is not left out: %+v", bad, s.top())
		}
		s.until(s.now + 12*time.Minute)
		s.expectMembers(t, s.top().Number, 0, 1, 2)
		s.expectEnd(t, codeDone)
	}
}

// TestTooFew: at first with 1 and who is missing, later with 75.
func TestTooFew(t *testing.T) {
	s := newScene(t, 3, Config{JoinTimeout: 30 * time.Second})
	s.hosts[1].away = true
	s.until(29 * time.Second)
	if len(s.codes) != 0 {
		t.Fatalf("exits early: %v", s.codes)
	}
	s.expectEnd(t, codeFailed)
	if all := fmt.Sprint(s.history); !strings.Contains(all, "2 of at least 3 nodes are there; missing: node rank 1") {
		t.Error("it is not said who is missing")
	}

	s = newScene(t, 3, Config{RejoinTimeout: 20 * time.Second})
	s.until(5 * time.Second)
	s.crash(s.hosts[0].p)
	for _, h := range s.hosts {
		h.away = true
	}
	s.until(50 * time.Second)
	for _, h := range s.hosts[1:] {
		if h.p != nil {
			t.Errorf("%s waits still", h.p.node.ID)
		}
	}
	if !strings.Contains(fmt.Sprint(s.history), "exits with 75") {
		t.Error("not with 75")
	}
}

// TestAnotherRun: two runs in one directory do not both go on.
func TestAnotherRun(t *testing.T) {
	s := newScene(t, 2, Config{MinNodes: 1, MaxNodes: 1})
	s.hosts[1].away = true
	s.until(5 * time.Second)
	stranger := Record{Number: 1, RunID: "other", Coordinator: "0-ffffffff", Members: []Member{{Node: Node{ID: "0-ffffffff", NProc: 1}}}, World: 1}
	s.fs.records = append(s.fs.records, stranger)
	s.expectEnd(t, codeConfig)
	if !strings.Contains(fmt.Sprint(s.history), "another run has taken output_dir") {
		t.Error("it is not said why")
	}
}

// TestFailedPaths: of a pair without a path between its ranks the later one is left out; where nobody can be spared it is tried again.
func TestFailedPaths(t *testing.T) {
	s := newScene(t, 4, Config{MinNodes: 3, MaxNodes: 4, LastCall: time.Second})
	s.net.paths[[2]int{1, 2}] = true
	s.until(10 * time.Second)
	s.expectMembers(t, 1, 0, 1, 3)
	s.expectEnd(t, codeDone)

	s = newScene(t, 3, Config{})
	s.net.paths[[2]int{1, 2}] = true
	s.until(60 * time.Second)
	if len(s.worlds) != 0 || len(s.fs.records) > 12 {
		t.Fatalf("%d generations have run, %d were claimed", len(s.worlds), len(s.fs.records))
	}
	delete(s.net.paths, [2]int{1, 2})
	s.expectEnd(t, codeDone)

	s = newScene(t, 3, Config{MinNodes: 2, MaxNodes: 3, LastCall: time.Second})
	s.until(5 * time.Second)
	s.net.paths[[2]int{0, 2}] = true
	s.until(30 * time.Second)
	s.expectMembers(t, 2, 0, 1)
	if cause := s.fs.records[1].Cause; !strings.Contains(cause, "the path between") {
		t.Errorf("cause %q", cause)
	}
	s.expectEnd(t, codeDone)
}

// TestPathLostTooLate: what is found out of a path when the generation that it belonged to is over ends no later one.
func TestPathLostTooLate(t *testing.T) {
	s := newScene(t, 3, Config{MaxRestarts: 1})
	s.until(5 * time.Second)
	before, was := s.members(), s.hosts[2].p.node.ID
	s.crash(s.hosts[2].p)
	s.after(2*time.Second, func() { s.boot(s.hosts[2]) })
	s.until(14 * time.Second)
	s.expectMembers(t, 1, before...)
	s.hosts[0].p.give(PathLost{Number: 0, ID: was})
	s.until(16 * time.Second)
	s.expectMembers(t, 1, before...)
	s.expectEnd(t, codeDone)
}

// TestCutInTwo: of two halves that could each go on alone one does.
func TestCutInTwo(t *testing.T) {
	s := newScene(t, 4, Config{MinNodes: 2, MaxNodes: 4, LastCall: time.Second})
	s.total = 300
	s.until(5 * time.Second)
	for _, a := range []int{0, 1} {
		for _, b := range []int{2, 3} {
			s.block(a, b, 1)
			s.block(b, a, 1)
		}
	}
	s.expectEnd(t, codeDone)
	if n := len(s.fs.records); n > 6 {
		t.Errorf("it took %d generations", n)
	}
}

// TestNoFiles: without the file system nothing runs longer than a lease, and after it all goes on.
func TestNoFiles(t *testing.T) {
	s := newScene(t, 3, Config{})
	s.until(5 * time.Second)
	for i := range 3 {
		s.fs.hung[i] = true
	}
	s.until(11 * time.Second)
	for _, j := range s.worlds[0].jobs {
		if !j.dead {
			t.Error("workers run without a lease")
		}
	}
	clear(s.fs.hung)
	s.until(18 * time.Second)
	s.expectMembers(t, 1, 0, 1, 2)
	s.expectEnd(t, codeDone)
}

// TestOutcomeAtTheSameTime: the outcome of a generation is written while the next one is claimed. It may have been heard, so it binds.
func TestOutcomeAtTheSameTime(t *testing.T) {
	for _, weak := range []weakness{0, weakOutcome} {
		s := newScene(t, 2, Config{MaxRestarts: 5})
		s.weak = weak
		s.onClaim = func(r Record) {
			if r.Number == 1 {
				s.fs.outcome = &Outcome{Code: codeNoProgress, Generation: 0, RunID: "run", Digest: "d"}
			}
		}
		s.until(4 * time.Second)
		s.fail(1, Failure{Echo: 1, ExitCode: 1, Message: "crash"})
		if weak != 0 {
			s.expectEnd(t, codeDone)
			continue
		}
		s.expectEnd(t, codeNoProgress)
		if s.worlds[1] != nil || s.fs.outcome.Generation != 1 {
			t.Errorf("generation 1 has run, outcome %+v", s.fs.outcome)
		}
	}
}

// TestOutcomeOfTheOvertaken: an outcome that is written late, when a later generation runs already, ends nothing.
func TestOutcomeOfTheOvertaken(t *testing.T) {
	s := newScene(t, 2, Config{MaxRestarts: 5})
	s.until(4 * time.Second)
	s.fail(1, Failure{Echo: 1, ExitCode: 1, Message: "crash"})
	s.until(8 * time.Second)
	s.fs.outcome = &Outcome{Code: codeNoProgress, Generation: 0, RunID: "run", Digest: "d"}
	s.fail(1, Failure{Echo: 1, ExitCode: 1, Message: "crash"})
	s.expectEnd(t, codeDone)
}

// TestFailureWhileStopping: a failure during the last checkpoint does not let the others wait for it.
func TestFailureWhileStopping(t *testing.T) {
	for failing := range 3 {
		s := newScene(t, 3, Config{MinNodes: 2, MaxNodes: 3, MaxRestarts: 3, LastCall: time.Second})
		s.until(5 * time.Second)
		s.hosts[1].away = true
		s.worlds[0].saving = true // the checkpoint takes for ever
		s.leave(s.hosts[1].p)
		s.until(6 * time.Second)
		s.fail(failing, Failure{Echo: 1, ExitCode: 1, Message: "disk full"})
		s.until(12 * time.Second)
		s.expectMembers(t, 1, 0, 2)
		s.expectEnd(t, codeDone)
	}
}
