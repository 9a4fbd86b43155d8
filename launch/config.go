package launch

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/rs/zerolog"
)

// Defaults of Config.
const (
	DefaultGrace       = 25 * time.Second
	DefaultMaxRestarts = 3 // for callers: a Config with MaxRestarts 0 does not restart
)

// MaxWorkers bounds Config.NProc: above it lies a slip of the finger, not a machine.
const MaxWorkers = 1024

// Tee says which ranks' output is shown on the agent's own, besides being filed.
type Tee string

// Values of Tee; the empty one is TeeRank0.
const (
	TeeNone  Tee = "none"
	TeeRank0 Tee = "rank0"
	TeeAll   Tee = "all"

	TeeStdout Tee = "stdout" // of all ranks, as torchrun's 1
	TeeStderr Tee = "stderr" // of all ranks, as torchrun's 2
)

// Config says what Run runs.
type Config struct {
	// Worker is the program and the arguments of a worker; the program is a path, or a name to be found in PATH. Helper is
	// the same of a process that calls Helper with the arguments that follow these, usually this program again. Without it
	// a worker is not safe from signals while it is loaded, and its children may outlive an agent that is killed.
	Worker, Helper []string

	NProc      int    // workers to start, at least 1
	ConfigJSON []byte // handed to every worker as it is; JSON, at most 4 MiB

	OutputDir string // told to the workers; may be empty
	LogDir    string // holds attempt_<n>/<rank>/; empty: logs below OutputDir, or no files if that is empty too
	RunID     string // told to the workers; empty: a random one

	ThreadsPerRank int           // 0: OMP_NUM_THREADS, else the cores the process may use / NProc, at least 1
	MaxRestarts    int           // attempts after the first one; 0: none
	Grace          time.Duration // how long a stop with a checkpoint may take; 0: DefaultGrace
	Limits         Limits        // when a worker counts as hung
	DebugRanks     []int         // ranks that wait for a debugger, and have no limits; nobody kills one for another's failure while it is debugged
	MetricsAddr    string        // host:port to serve Prometheus at; empty: nowhere
	LogMaxSize     int64         // bytes of a log, after which it begins anew and what it was becomes NAME.1; 0: no limit
	LogMaxAttempts int           // attempts whose logs are kept; 0: all
	Tee            Tee

	Stdout, Stderr io.Writer // where workers' lines are shown; nil: nowhere. One line is one or part of one Write.
	Logger         zerolog.Logger
	Env            []string // environment that workers' variables are added to; nil: os.Environ()
}

// withDefaults checks c and fills in what was left empty.
func (c Config) withDefaults() (Config, error) {
	switch {
	case len(c.Worker) == 0 || c.Worker[0] == "":
		return c, errors.New("launch: no worker program given")
	case c.NProc < 1 || c.NProc > MaxWorkers:
		return c, fmt.Errorf("launch: nproc is %d; it must be at least 1 and at most %d", c.NProc, MaxWorkers)
	case c.ThreadsPerRank < 0:
		return c, fmt.Errorf("launch: threads per rank is %d; it must be at least 1, or 0 for the default", c.ThreadsPerRank)
	case c.MaxRestarts < 0:
		return c, fmt.Errorf("launch: max restarts is %d; it must be at least 0", c.MaxRestarts)
	case slices.ContainsFunc(c.DebugRanks, func(rank int) bool { return rank < 0 || rank >= c.NProc }):
		return c, fmt.Errorf("launch: ranks %v shall be debugged; there are ranks 0 to %d", c.DebugRanks, c.NProc-1)
	case c.LogMaxSize < 0:
		return c, fmt.Errorf("launch: log max size is %d bytes; it must be at least 0", c.LogMaxSize)
	case c.LogMaxAttempts < 0:
		return c, fmt.Errorf("launch: log max attempts is %d; it must be at least 0", c.LogMaxAttempts)
	case c.Grace < 0:
		return c, fmt.Errorf("launch: grace is %v; it must not be negative", c.Grace)
	case len(c.ConfigJSON) > 4<<20:
		return c, fmt.Errorf("launch: the configuration is %d bytes as JSON; at most 4 MiB are allowed", len(c.ConfigJSON))
	case len(c.ConfigJSON) > 0 && !json.Valid(c.ConfigJSON):
		return c, errors.New("launch: the configuration is not JSON")
	}
	switch c.Tee {
	case "":
		c.Tee = TeeRank0
	case TeeNone, TeeRank0, TeeAll, TeeStdout, TeeStderr:
	default:
		return c, fmt.Errorf("launch: tee is %q; it must be %s, %s, %s, %s or %s", c.Tee, TeeNone, TeeRank0, TeeAll, TeeStdout, TeeStderr)
	}
	if len(c.ConfigJSON) == 0 {
		c.ConfigJSON = []byte("null")
	}
	if c.Grace == 0 {
		c.Grace = DefaultGrace
	}
	if c.LogDir == "" && c.OutputDir != "" {
		c.LogDir = filepath.Join(c.OutputDir, "logs")
	}
	if c.RunID == "" {
		c.RunID = "ddprun-" + randomHex(4)
	}
	if c.Env == nil {
		c.Env = os.Environ()
	}
	if c.Stdout == nil {
		c.Stdout = io.Discard
	}
	if c.Stderr == nil {
		c.Stderr = io.Discard
	}
	return c, nil
}

// shows says whether all output of a rank is shown.
func (c Config) shows(rank int) bool {
	return c.Tee == TeeAll || c.Tee == TeeRank0 && rank == 0
}

// screens are where the two outputs of a rank are shown, of those given; nil: nowhere.
func (c Config) screens(rank int, stdout, stderr *screen) (*screen, *screen) {
	switch {
	case c.shows(rank):
		return stdout, stderr
	case c.Tee == TeeStdout:
		return stdout, nil
	case c.Tee == TeeStderr:
		return nil, stderr
	}
	return nil, nil
}

// randomHex returns n random bytes in hexadecimal.
func randomHex(n int) string {
	bytes := make([]byte, n)
	rand.Read(bytes) // never fails (crypto/rand)
	return hex.EncodeToString(bytes)
}
