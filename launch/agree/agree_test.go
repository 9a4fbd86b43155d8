package agree

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// settings of the schedules: DDPRUN_SEED replays one and prints all that happens; DDPRUN_SEEDS says how many, DDPRUN_HOSTS
// on how many hosts instead of a number from the seed.
func schedules(t *testing.T, quick, long uint64) (first, count uint64) {
	first, count = 1, quick
	if os.Getenv("DDPRUN_TEST_ALL") != "" {
		count = long
	}
	if seed, err := strconv.ParseUint(os.Getenv("DDPRUN_SEED"), 10, 64); err == nil {
		first, count = seed, 1
	}
	if n, err := strconv.ParseUint(os.Getenv("DDPRUN_SEEDS"), 10, 64); err == nil {
		count = n
	}
	return first, count
}

// tally is what became of many schedules.
type tally struct {
	schedules, agents, generations, messages    int
	crashes, stops, cuts, failures, leaves, ill int
	codes                                       map[int]int
	slowest                                     time.Duration // from the end of the faults to the end of the run
	slowestSeed                                 uint64
}

func (a *tally) add(s *sim) {
	a.schedules++
	for _, h := range s.hosts {
		a.agents += h.lives
	}
	a.generations += len(s.fs.records)
	a.messages += s.messages
	a.crashes += s.stats.crashes
	a.stops += s.stats.stops
	a.cuts += s.stats.cuts
	a.failures += s.stats.failures
	a.leaves += s.stats.leaves
	a.ill += s.stats.slow
	if a.codes == nil {
		a.codes = map[int]int{}
	}
	for code := range s.codes {
		a.codes[code]++
	}
	if d := s.endedAt - s.calm; d > a.slowest {
		a.slowest, a.slowestSeed = d, s.seed
	}
}

const calm = 60 * time.Second

// simulate runs one schedule.
func simulate(seed uint64, hosts int, change func(*sim)) *sim {
	s := newSim(seed, hosts)
	if change != nil {
		change(s)
	}
	s.faults(calm)
	s.run(20 * time.Minute)
	s.judge()
	return s
}

func TestSimulation(t *testing.T) {
	first, count := schedules(t, 100, 20000)
	var a tally
	for seed := first; seed < first+count; seed++ {
		hosts, _ := strconv.Atoi(os.Getenv("DDPRUN_HOSTS"))
		s := simulate(seed, hosts, func(s *sim) { s.verbose = count == 1 })
		a.add(s)
		if s.broken != "" && os.Getenv("DDPRUN_KEEP_GOING") != "" {
			t.Errorf("seed %d: %s", seed, s.broken)
		} else if s.broken != "" {
			t.Fatal(s.report())
		}
	}
	t.Logf("%+v", a)
}

// TestEachRuleIsNeeded: without any one of the rules the simulation fails (TestOutcomeAtTheSameTime has one more).
func TestEachRuleIsNeeded(t *testing.T) {
	for _, c := range []struct {
		name   string
		quick  bool // few schedules show it
		change func(*sim)
	}{
		{"fence", true, func(s *sim) { s.weak = weakFence }},
		{"rank", true, func(s *sim) { s.weak = weakRank }},
		{"budget", true, func(s *sim) { s.weak = weakBudget }},
		{"reader", true, func(s *sim) { s.naive = true }},
		{"claim", false, func(s *sim) { s.weak = weakClaim }},
		{"promise", false, func(s *sim) { s.weak = weakPromise }},
		{"look", false, func(s *sim) { s.weak = weakLook }},
		{"sent", false, func(s *sim) { s.weak = weakSent }},
	} {
		t.Run(c.name, func(t *testing.T) {
			long := os.Getenv("DDPRUN_TEST_ALL") != ""
			if !c.quick && !long {
				t.Skip("takes seconds: DDPRUN_TEST_ALL=1 runs it")
			}
			for seed := uint64(1); seed < 20000; seed++ {
				if s := simulate(seed, 0, c.change); s.broken != "" {
					t.Logf("schedule %d: %s", seed, s.broken)
					return
				}
			}
			t.Error("nothing is noticed")
		})
	}
}

// TestManyAgents: 1,024 agents that find each other in any order agree on one generation, with few messages.
func TestManyAgents(t *testing.T) {
	sizes := []int{16, 64, 256}
	if os.Getenv("DDPRUN_TEST_ALL") != "" {
		sizes = append(sizes, 1024)
	}
	for _, n := range sizes {
		s := newScene(t, n, Config{})
		s.wire = false
		var connected time.Duration // when the last two found each other
		s.onConnect = func() { connected = s.now }
		started := func() int {
			if w := s.worlds[0]; w != nil {
				return len(w.jobs)
			}
			return 0
		}
		for s.broken == "" && started() < n && s.now < time.Minute {
			s.until(s.now + 10*time.Millisecond)
		}
		rounds := float64(s.now-connected) / float64(DefaultBeat)
		t.Logf("%d agents: %d messages, %.0f an agent; all workers started %v after the last connection, %.1f beats; %d claims",
			n, s.messages, float64(s.messages)/float64(n), s.now-connected, rounds, s.claims)
		if started() != n || s.claims != 1 {
			t.Errorf("%d of %d agents have started, %d claims", started(), n, s.claims)
		}
		if rounds > 4 || s.messages > 60*n {
			t.Errorf("%d agents took %.1f beats and %d messages", n, rounds, s.messages)
		}
	}
}

// judge checks how a schedule has ended.
func (s *sim) judge() {
	if s.broken != "" {
		return
	}
	if !s.over() {
		s.violate("the run has not ended")
		return
	}
	if len(s.codes) != 1 {
		s.violate("agents have exited with different codes: %v", s.codes)
	}
	for code := range s.codes {
		switch last := s.fs.records[s.endedIn]; {
		case code == codeDone && s.fs.newest() != s.total:
			s.violate("the run is done, but its newest checkpoint is at step %d of %d", s.fs.newest(), s.total)
		case code == codeNoProgress && max(last.Barren, s.fs.records[max(0, s.endedIn-1)].Barren) < maxBarren-1: // the one before: its outcome was taken over
			s.violate("the run is given up after %d failures", last.Barren)
		case code == codeFailed && s.final.Failure == nil:
			s.violate("the run has failed without a failure")
		}
	}
	if bound := 2*time.Minute + time.Duration(s.total)*350*time.Millisecond; s.endedAt-s.calm > bound {
		s.violate("the run has taken %v after the last fault, more than %v", s.endedAt-s.calm, bound)
	}
}
