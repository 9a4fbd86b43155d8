package launch

import (
	"runtime"
	"slices"
	"testing"

	"github.com/ddprun/ddprun/launch/pipe"
)

func TestThreadsPerRank(t *testing.T) {
	share := max(1, runtime.GOMAXPROCS(0)/2)
	for _, c := range []struct {
		name string
		c    Config
		want int
	}{
		{"configured", Config{NProc: 2, ThreadsPerRank: 7, Env: []string{"OMP_NUM_THREADS=3"}}, 7},
		{"environment", Config{NProc: 2, Env: []string{"OMP_NUM_THREADS=3"}}, 3},
		{"nested", Config{NProc: 2, Env: []string{"OMP_NUM_THREADS= 5 ,2"}}, 5},
		{"the last one counts", Config{NProc: 2, Env: []string{"OMP_NUM_THREADS=3", "OMP_NUM_THREADS=4"}}, 4},
		{"nonsense", Config{NProc: 2, Env: []string{"OMP_NUM_THREADS=many"}}, share},
		{"zero", Config{NProc: 2, Env: []string{"OMP_NUM_THREADS=0"}}, share},
		{"share", Config{NProc: 2}, share},
		{"at least one", Config{NProc: 10 * runtime.GOMAXPROCS(0)}, 1},
	} {
		if got := threadsPerRank(c.c); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestWorkerEnvReplacesAndKeeps(t *testing.T) {
	base := []string{"HOME=/h", "RANK=99", "WORLD_SIZE=99", "OMP_WAIT_POLICY=ACTIVE", "DDPRUN_KEY_FILE=k", "EMPTY="}
	env := workerEnv(base, pipe.Start{Rank: 1, WorldSize: 2, Threads: 3}, 0, Config{RunID: "r"}, "m")
	for _, want := range []string{"HOME=/h", "EMPTY=", "RANK=1", "WORLD_SIZE=2", "OMP_NUM_THREADS=3", "OMP_WAIT_POLICY=ACTIVE", "TORCHELASTIC_RUN_ID=r"} {
		if !slices.Contains(env, want) {
			t.Errorf("lacks %s", want)
		}
	}
	for _, unwanted := range []string{"RANK=99", "WORLD_SIZE=99", "DDPRUN_KEY_FILE=k"} {
		if slices.Contains(env, unwanted) {
			t.Errorf("has %s", unwanted)
		}
	}
}

func TestThreadsWaitPassivelyWhereTheyOutnumberCores(t *testing.T) {
	cores := runtime.GOMAXPROCS(0)
	for _, c := range []struct {
		threads, ranks int
		want           bool
	}{{cores, 1, false}, {1, cores, false}, {cores, 2, true}, {1, cores + 1, true}} {
		env := workerEnv(nil, pipe.Start{WorldSize: c.ranks, LocalWorldSize: c.ranks, Threads: c.threads}, 0, Config{}, "m")
		if got := slices.Contains(env, "OMP_WAIT_POLICY=PASSIVE"); got != c.want {
			t.Errorf("%d ranks of %d threads on %d cores: passive %v, want %v", c.ranks, c.threads, cores, got, c.want)
		}
	}
}

func TestRankMarksDoNotBeginWithEachOther(t *testing.T) {
	if a, b := rankMark("m", 1), rankMark("m", 10); len(a) >= len(b) || b[:len(a)] == a {
		t.Errorf("%q begins with %q: the end of rank 1 would be the end of rank 10", b, a)
	}
}
