package launch

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
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

	"github.com/ddprun/ddprun/launch/agree"
)

// Defaults of Config.
const (
	DefaultGrace       = 25 * time.Second
	DefaultMaxRestarts = 3 // for callers: a Config with MaxRestarts 0 does not restart

	DefaultPort          = 29400 // torchrun's
	DefaultLease         = agree.DefaultLease
	DefaultLastCall      = 10 * time.Second
	DefaultJoinTimeout   = 10 * time.Minute
	DefaultRejoinTimeout = 5 * time.Minute
	DefaultRemedyAfter   = time.Minute
)

// MinLease keeps a busy node from being taken for a dead one.
const MinLease = time.Second

// MaxWorkers bounds Config.NProc: above it lies a slip of the finger, not a machine.
const MaxWorkers = 1024

// MaxNodes bounds Nodes.MaxNodes in the same sense.
const MaxNodes = 4096

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
	RunID     string // told to the workers; empty: a random one, or with more than one node one that follows from OutputDir

	ThreadsPerRank int           // 0: OMP_NUM_THREADS, else the cores the process may use / NProc, at least 1
	MaxRestarts    int           // attempts after the first one; 0: none
	Grace          time.Duration // how long a stop with a checkpoint may take; 0: DefaultGrace
	Limits         Limits        // when a worker counts as hung
	DebugRanks     []int         // ranks that wait for a debugger, and have no limits; nobody kills one for another's failure while it is debugged
	MetricsAddr    string        // host:port to serve Prometheus at; empty: nowhere
	TrainJob       TrainJob      // who is told how far the run is
	LogMaxSize     int64         // bytes of a log, after which it begins anew and what it was becomes NAME.1; 0: no limit
	LogMaxAttempts int           // attempts whose logs are kept; 0: all
	Tee            Tee

	Nodes // where there is more than one

	Stdout, Stderr io.Writer // where workers' lines are shown; nil: nowhere. One line is one or part of one Write.
	Logger         zerolog.Logger
	Env            []string // environment that workers' variables are added to; nil: os.Environ()
}

// Nodes says how this node finds the others. The zero value is a node alone, which opens no network port.
type Nodes struct {
	MinNodes, MaxNodes int      // equal: exactly so many; 0: 1
	NodeRank           int      // -1: none declared; of a node alone of no effect
	Join               []string // host or host:port of agents to find the others through
	Port               int      // of agents, TCP and UDP; 0: DefaultPort
	Listen, Advertise  string   // address or interface; empty: all, and the one that leads to the others
	Key                []byte   // the job's; nil: agents are not authenticated

	// Resolve finds addresses of names that Go's own resolver does not know; nil: none.
	Resolve func(ctx context.Context, host string) ([]string, error)

	JoinTimeout   time.Duration // for MinNodes to be there at first; 0: DefaultJoinTimeout
	RejoinTimeout time.Duration // ... and after nodes were lost; 0: DefaultRejoinTimeout
	LeaversReturn bool          // a node that was told to leave comes again by itself: the others wait for it as for a lost one
	LastCall      time.Duration // how long nobody new may come before a start with fewer than MaxNodes; 0: DefaultLastCall
	Lease         time.Duration // how long a node is waited for that says nothing; 0: DefaultLease
	RemedyAfter   time.Duration // how long a node is lost before its Remedy is said; 0: DefaultRemedyAfter

	// Digests must be the same on all nodes: "configuration", and of what was read ("model", "tokenizer", "shards", "program").
	Digests map[string]string
	Note    string                // what this node's ranks run on, for people
	Remedy  string                // what people can do when this node was lost and does not come back; the others say it. Empty: nothing
	Newest  func() (int64, error) // step of the newest checkpoint in OutputDir that counts, 0: none; nil: never one
}

// withDefaults checks n and fills in what was left empty.
func (n Nodes) withDefaults(outputDir string) (Nodes, error) {
	if n.MinNodes == 0 && n.MaxNodes == 0 {
		n.MinNodes, n.MaxNodes = 1, 1
	}
	switch {
	case n.MinNodes < 1 || n.MaxNodes < n.MinNodes:
		return n, fmt.Errorf("launch: from %d to %d nodes; want at least 1, and the second number not below the first", n.MinNodes, n.MaxNodes)
	case n.MaxNodes > MaxNodes:
		return n, fmt.Errorf("launch: %d nodes; at most %d are allowed", n.MaxNodes, MaxNodes)
	case n.NodeRank < -1:
		return n, fmt.Errorf("launch: node rank is %d; it must be at least 0, or -1 for none", n.NodeRank)
	case n.MaxNodes > 1 && outputDir == "":
		return n, errors.New("launch: several nodes need an output directory that they share")
	case n.Lease != 0 && n.Lease < MinLease:
		return n, fmt.Errorf("launch: lease is %v; it must be at least %v, so that a busy node is not taken for a dead one", n.Lease, MinLease)
	case n.JoinTimeout < 0 || n.RejoinTimeout < 0 || n.LastCall < 0 || n.RemedyAfter < 0:
		return n, errors.New("launch: a time-out is negative")
	}
	for value, standard := range map[*time.Duration]time.Duration{&n.JoinTimeout: DefaultJoinTimeout, &n.RejoinTimeout: DefaultRejoinTimeout,
		&n.LastCall: DefaultLastCall, &n.Lease: DefaultLease, &n.RemedyAfter: DefaultRemedyAfter} {
		if *value == 0 {
			*value = standard
		}
	}
	if n.Port == 0 {
		n.Port = DefaultPort
	}
	return n, nil
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
	case slices.ContainsFunc(c.DebugRanks, func(rank int) bool { return rank < 0 || rank >= c.NProc*max(1, c.MaxNodes) }):
		return c, fmt.Errorf("launch: ranks %v shall be debugged; there are ranks 0 to %d", c.DebugRanks, c.NProc*max(1, c.MaxNodes)-1)
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
	var err error
	if c.Nodes, err = c.Nodes.withDefaults(c.OutputDir); err != nil {
		return c, err
	}
	switch {
	case c.RunID != "":
	case c.MaxNodes == 1:
		c.RunID = "ddprun-" + randomHex(4)
	default:
		if c.RunID, err = DefaultRunID(c.OutputDir); err != nil {
			return c, err
		}
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

// DefaultRunID names the run of an output directory, the same on all nodes.
func DefaultRunID(outputDir string) (string, error) {
	dir, err := filepath.Abs(outputDir)
	if err != nil {
		return "", fmt.Errorf("launch: output directory: %w", err)
	}
	digest := sha256.Sum256([]byte(dir))
	return "ddprun-" + hex.EncodeToString(digest[:4]), nil
}
