package where

import (
	"fmt"
	"strconv"
	"strings"
)

// DefaultPort is where agents listen unless something else is said. In Slurm it follows from the job (slurmPort).
const DefaultPort = 29400

const (
	maxNodes = 1 << 16 // above it lies a slip of the finger
	maxPort  = 1<<16 - 2
)

// maxJoin is the number of addresses that Find keeps of a longer list. All nodes keep the same ones, so they find each other as
// long as one of these is there, and nobody dials thousands.
const maxJoin = 64

// Source names what said how many nodes there are.
type Source string

// Values of Source.
const (
	FromFlags      Source = "flags"
	FromDDPRun     Source = "DDPRUN_*"
	FromPET        Source = "PET_*"
	FromSlurm      Source = "slurm"
	FromKubernetes Source = "kubernetes"
	Alone          Source = "alone"
)

// Place says where an agent is. With MaxNodes 1 it is alone: Join is empty, and no port is needed.
type Place struct {
	MinNodes, MaxNodes int      // equal unless the run is elastic
	NodeRank           int      // -1: none is given
	RunID              string   // empty: none is given
	Join               []string // HOST, HOST:PORT or [IPv6]:PORT, at most 64; this node may be among them
	Port               int      // to listen on; the others' too, where Join names none
	KeyFile            string   // empty: none is given
	NProc              string   // ranks a node as PET_NPROC_PER_NODE or DDPRUN_NPROC says: a number, auto, gpu or cpu; empty: not said
	MaxRestarts        int      // as PET_MAX_RESTARTS says; -1: not said
	Source             Source
}

// Flags are the command line's words, each empty where the flag is not given.
type Flags struct {
	NNodes   string // N or MIN:MAX
	NodeRank string
	Join     []string
	Port     string
	RunID    string
	KeyFile  string
}

// Find says where an agent with these flags and this environment is. Every error is one of usage and says the way out.
func Find(flags Flags, env []string) (Place, error) {
	vars := environment(env)
	slurm, err := slurmLayer(vars, flags.NNodes != "" || vars.tell("DDPRUN_NNODES", "PET_NNODES"))
	if err != nil {
		return Place{}, err
	}
	layers := []layer{flagLayer(flags), ddprunLayer(vars), petLayer(vars), slurm, kubernetesLayer(vars)}
	p := Place{MinNodes: 1, MaxNodes: 1, NodeRank: -1, MaxRestarts: -1, Port: DefaultPort, Source: Alone}
	nnodes, source := first(layers, func(l layer) said { return l.nnodes })
	if nnodes.text != "" {
		p.Source = source
		if p.MinNodes, p.MaxNodes, err = ParseNodes(nnodes.text); err != nil {
			return p, fmt.Errorf("%s: %w", nnodes.by, err)
		}
	}
	if err := p.fits(nnodes.by, slurm.nnodes.text); err != nil {
		return p, err
	}
	runID, _ := first(layers, func(l layer) said { return l.runID })
	keyFile, _ := first(layers, func(l layer) said { return l.keyFile })
	nproc, _ := first(layers, func(l layer) said { return l.nproc })
	p.RunID, p.KeyFile, p.NProc = runID.text, keyFile.text, nproc.text
	if err := p.numbers(layers); err != nil {
		return p, err
	}
	if p.MaxNodes == 1 {
		p.NodeRank = max(0, p.NodeRank)
		return p, lonely(p, vars)
	}
	return p, p.whom(layers)
}

// numbers reads what has to be a number.
func (p *Place) numbers(layers []layer) error {
	for _, n := range []struct {
		get      func(layer) said
		low, top int
		to       *int
	}{
		{func(l layer) said { return l.nodeRank }, 0, maxNodes - 1, &p.NodeRank},
		{func(l layer) said { return l.port }, 1, maxPort, &p.Port},
		{func(l layer) said { return l.tries }, 0, 1 << 30, &p.MaxRestarts},
	} {
		s, _ := first(layers, n.get)
		if s.text == "" {
			continue
		}
		value, err := strconv.Atoi(s.text)
		if err != nil || value < n.low || value > n.top {
			return fmt.Errorf("%s: want a number from %d to %d, got %q", s.by, n.low, n.top, s.text)
		}
		*n.to = value
	}
	if rank, _ := first(layers, func(l layer) said { return l.nodeRank }); p.MaxNodes > 1 && p.NodeRank >= p.MaxNodes {
		return fmt.Errorf("%s is %d, but of %d nodes the last is %d: node ranks count from 0", rank.by, p.NodeRank, p.MaxNodes, p.MaxNodes-1)
	}
	return nil
}

// whom reads whom to join.
func (p *Place) whom(layers []layer) error {
	for _, l := range layers {
		if len(l.join) == 0 {
			continue
		}
		for _, address := range l.join {
			if _, _, err := SplitAddress(address, p.Port); err != nil {
				return fmt.Errorf("%s: %w", l.joinBy, err)
			}
		}
		p.Join = spread(l.join, maxJoin)
		return nil
	}
	return fmt.Errorf("%d nodes, but no address at which one finds another: give every node the same --join HOST[:PORT],... that names one or more of them (or set DDPRUN_JOIN)",
		p.MaxNodes)
}

// spread keeps at most n of list, evenly.
func spread(list []string, n int) []string {
	if len(list) <= n {
		return list
	}
	kept := make([]string, n)
	for i := range kept {
		kept[i] = list[i*len(list)/n]
	}
	return kept
}

// fits refuses a number of nodes that the Slurm step around this process contradicts: such a run would wait for ever, or leave some
// out. step is empty outside of one.
func (p *Place) fits(by, step string) error {
	n, err := strconv.Atoi(step)
	switch {
	case err != nil: // no step
		return nil
	case p.MinNodes > n:
		return fmt.Errorf("%s wants %s, but this Slurm step has %s: ask for as many (srun --nodes=%d --ntasks-per-node=1)",
			by, count(p.MinNodes), count(n), p.MinNodes)
	case p.MaxNodes < n:
		return fmt.Errorf("%s takes %s, but this Slurm step has %s: leave it out, or start fewer (srun --nodes=%d --ntasks-per-node=1)",
			by, count(p.MaxNodes), count(n), p.MaxNodes)
	}
	return nil
}

func count(nodes int) string {
	if nodes == 1 {
		return "1 node"
	}
	return strconv.Itoa(nodes) + " nodes"
}

// ParseNodes reads N or MIN:MAX.
func ParseNodes(text string) (low, high int, err error) {
	from, to, elastic := strings.Cut(text, ":")
	if !elastic {
		to = from
	}
	low, errLow := strconv.Atoi(from)
	high, errHigh := strconv.Atoi(to)
	switch {
	case errLow != nil || errHigh != nil:
		return 0, 0, fmt.Errorf("want a number of nodes N, or MIN:MAX, got %q", text)
	case low < 1 || high > maxNodes:
		return 0, 0, fmt.Errorf("want from 1 to %d nodes, got %q", maxNodes, text)
	case low > high:
		return 0, 0, fmt.Errorf("%q: MIN is more than MAX", text)
	}
	return low, high, nil
}
