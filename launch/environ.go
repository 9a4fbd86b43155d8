package launch

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/ddprun/ddprun/launch/pipe"
)

// envMark carries a run's mark and the rank in the environment of a worker and of whatever it starts.
const envMark = "DDPRUN_MARK"

// masterPort is torchrun's default. Nothing listens there: ranks meet through the store behind the pipe.
const masterPort = 29500

// secretVariables are for the agent alone.
var secretVariables = []string{"DDPRUN_KEY", "DDPRUN_KEY_FILE"}

// workerEnv returns base with the variables of the worker that start describes: torchrun's, OpenMP's, the pipe's.
func workerEnv(base []string, start pipe.Start, restarts int, c Config, mark string) []string {
	set := map[string]string{
		"RANK":                         strconv.Itoa(start.Rank),
		"LOCAL_RANK":                   strconv.Itoa(start.LocalRank),
		"WORLD_SIZE":                   strconv.Itoa(start.WorldSize),
		"LOCAL_WORLD_SIZE":             strconv.Itoa(start.LocalWorldSize),
		"GROUP_RANK":                   strconv.Itoa(start.NodeRank),
		"GROUP_WORLD_SIZE":             strconv.Itoa(start.NodeCount),
		"ROLE_RANK":                    strconv.Itoa(start.Rank),
		"ROLE_WORLD_SIZE":              strconv.Itoa(start.WorldSize),
		"ROLE_NAME":                    "default",
		"MASTER_ADDR":                  start.Host,
		"MASTER_PORT":                  strconv.Itoa(masterPort),
		"TORCHELASTIC_RUN_ID":          c.RunID,
		"TORCHELASTIC_RESTART_COUNT":   strconv.Itoa(restarts),
		"TORCHELASTIC_MAX_RESTARTS":    strconv.Itoa(c.MaxRestarts),
		"TORCHELASTIC_USE_AGENT_STORE": "False",
		"OMP_NUM_THREADS":              strconv.Itoa(start.Threads),
		pipe.EnvFD:                     strconv.Itoa(workerPipeFD),
		pipe.EnvAgentPID:               strconv.Itoa(os.Getpid()),
		envMark:                        rankMark(mark, start.Rank),
	}
	if threads := start.Threads * start.LocalWorldSize; threads > runtime.GOMAXPROCS(0) && lookup(base, "OMP_WAIT_POLICY") == "" {
		// Threads outnumber cores: one that spins at a barrier takes a core from one that works. Otherwise OpenMP's own way, to
		// spin a little and then sleep, is better: to sleep at once cost a rank of 2 threads half its speed (docs/benchmarks.md).
		set["OMP_WAIT_POLICY"] = "PASSIVE"
	}
	if lookup(base, "MKL_DISABLE_FAST_MM") == "" {
		set["MKL_DISABLE_FAST_MM"] = "1" // MKL's own buffers are given back: 10 MiB a rank, at no measurable cost
	}
	env := make([]string, 0, len(base)+len(set))
	for _, variable := range base {
		name, _, _ := strings.Cut(variable, "=")
		if _, ours := set[name]; !ours && !slices.Contains(secretVariables, name) {
			env = append(env, variable)
		}
	}
	for name, value := range set {
		env = append(env, name+"="+value)
	}
	return env
}

// rankMark is the mark of one worker. It ends so that no other rank's mark begins with it.
func rankMark(mark string, rank int) string {
	return fmt.Sprintf("%s-%d.", mark, rank)
}

// threadsPerRank returns the threads of a worker: as configured, else as OMP_NUM_THREADS says (its first number, where
// it is a list for nested levels), else an equal share of the cores. GOMAXPROCS knows affinity and cgroup quotas.
func threadsPerRank(c Config) int {
	if c.ThreadsPerRank > 0 {
		return c.ThreadsPerRank
	}
	first, _, _ := strings.Cut(lookup(c.Env, "OMP_NUM_THREADS"), ",")
	if n, err := strconv.Atoi(strings.TrimSpace(first)); err == nil && n > 0 {
		return n
	}
	return max(1, runtime.GOMAXPROCS(0)/c.NProc)
}

// lookup returns the value of name in env, empty if it is not there. As for os/exec, the last one counts.
func lookup(env []string, name string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(env[i], name+"="); ok {
			return value
		}
	}
	return ""
}
