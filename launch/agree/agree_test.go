package agree

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// TestSimulation: DDPRUN_SEED replays one schedule and prints all of it; DDPRUN_TEST_ALL takes many more.
func TestSimulation(t *testing.T) {
	first, count := uint64(1), uint64(300)
	if os.Getenv("DDPRUN_TEST_ALL") != "" {
		count = 20000
	}
	if seed, err := strconv.ParseUint(os.Getenv("DDPRUN_SEED"), 10, 64); err == nil {
		first, count = seed, 1
	}
	for seed := first; seed < first+count; seed++ {
		s := newSim(seed, 0)
		s.verbose = os.Getenv("DDPRUN_SEED") != ""
		s.faults(60 * time.Second)
		s.run(20 * time.Minute)
		s.judge()
		if s.broken != "" {
			t.Fatal(s.report())
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
}
