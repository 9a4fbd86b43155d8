package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/ddprun/ddprun/internal/checkpoint"
	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/launch"
	"github.com/ddprun/ddprun/launch/where"
)

// nodeOptions are the flags of a run on several nodes.
type nodeOptions struct {
	nnodes, nodeRank, port, runID, keyFile, listen, advertise string
	join                                                      []string
	insecure, leaversReturn                                   bool
	joinTimeout, rejoinTimeout, lastCall, lease               time.Duration
}

func (o *nodeOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.nnodes, "nnodes", "", "nodes of the run: `N`, or MIN:MAX to start with fewer and to go on when some are lost (default: what Slurm, Kubernetes or variables say, else 1)")
	flags.StringVar(&o.nodeRank, "node-rank", "", "this node's `number` from 0 on, if nodes have one; it may come back at another address")
	flags.StringSliceVar(&o.join, "join", nil, "`HOST[:PORT],...` of nodes to find the others through, the same on every node (also --rdzv-endpoint)")
	flags.StringVar(&o.port, "port", "", "`port` of the agents, TCP and UDP (default "+strconv.Itoa(where.DefaultPort)+")")
	flags.StringVar(&o.runID, "run-id", "", "`name` of the run, the same on every node (also --rdzv-id; default: by output_dir)")
	flags.StringVar(&o.keyFile, "key-file", "", "`file` with the job's key, at least 16 bytes, readable by its owner alone; or DDPRUN_KEY. Who has it can take part")
	flags.BoolVar(&o.insecure, "insecure", false, "let several nodes run without a key: whoever reaches the port can take part")
	flags.StringVar(&o.listen, "listen", "", "`address` or interface to listen on (default: all)")
	flags.StringVar(&o.advertise, "advertise", "", "`address` or interface at which others reach this node, its ranks too (default: the one that leads to them)")
	flags.DurationVar(&o.joinTimeout, "join-timeout", launch.DefaultJoinTimeout, "how long to wait for enough nodes at first")
	flags.DurationVar(&o.rejoinTimeout, "rejoin-timeout", launch.DefaultRejoinTimeout, "how long to wait for enough nodes after some were lost; then exit code 75")
	flags.BoolVar(&o.leaversReturn, "leavers-return", false, "wait --rejoin-timeout for a node that TERM has ended too, as pods come again by themselves, if fewer than MIN are left; else all end with 75 at once")
	flags.DurationVar(&o.lastCall, "last-call", launch.DefaultLastCall, "with MIN:MAX, how long nobody new may come before a start with fewer than MAX")
	flags.DurationVar(&o.lease, "lease", launch.DefaultLease, "how long a node may say nothing before it counts as lost")
}

// aliases are torchrun's names of flags.
var aliases = map[string]string{"nproc-per-node": "nproc", "rdzv-endpoint": "join", "rdzv-id": "run-id"}

// find says where this node is.
func (o *nodeOptions) find() (where.Place, error) {
	return where.Find(where.Flags{NNodes: o.nnodes, NodeRank: o.nodeRank, Join: o.join, Port: o.port, RunID: o.runID, KeyFile: o.keyFile}, os.Environ())
}

// nodes is what launch is told of the other nodes.
func (o *nodeOptions) nodes(place where.Place, c *config.Config) (launch.Nodes, error) {
	n := launch.Nodes{
		MinNodes: place.MinNodes, MaxNodes: place.MaxNodes, NodeRank: place.NodeRank, Join: place.Join, Port: place.Port,
		Listen: o.listen, Advertise: o.advertise, Resolve: resolve,
		JoinTimeout: o.joinTimeout, RejoinTimeout: o.rejoinTimeout, LeaversReturn: o.leaversReturn, LastCall: o.lastCall, Lease: o.lease,
		Note:   c.Device,
		Remedy: os.Getenv("DDPRUN_REMEDY"), // manifests of ddprun k8s set it
		Newest: func() (int64, error) { return checkpoint.Newest(c.OutputDir) },
	}
	if place.MaxNodes == 1 {
		return n, nil
	}
	var err error
	if n.Key, err = launch.ReadKey(place.KeyFile); err != nil {
		return n, fmt.Errorf("--key-file: %w", err)
	}
	if n.Key == nil && !o.insecure {
		return n, errors.New("several nodes need a key, so that nobody else can take part: give every node the same --key-file (openssl rand -hex 32 >key; chmod 600 key) or DDPRUN_KEY; --insecure does without")
	}
	return n, nil
}

// resolve finds the addresses of a host that Go's own resolver may not know.
func resolve(ctx context.Context, host string) ([]string, error) {
	found, err := where.NewResolver(os.Environ()).Addresses(ctx, host)
	var texts []string
	for _, address := range found {
		texts = append(texts, address.String())
	}
	return texts, err
}

// notTheSame are the keys in which nodes of a run may differ.
var notTheSame = []string{"threads_per_rank", "shards_dir", "shards_cache_bytes", "log_level"}

// configDigest is the digest of what must be the same on every node.
func configDigest(settled []byte) (string, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(settled, &keys); err != nil {
		return "", fmt.Errorf("configuration: %w", err)
	}
	for _, key := range notTheSame {
		delete(keys, key)
	}
	same, err := json.Marshal(keys) // sorted
	if err != nil {
		return "", fmt.Errorf("configuration: %w", err)
	}
	digest := sha256.Sum256(same)
	return hex.EncodeToString(digest[:8]), nil
}
