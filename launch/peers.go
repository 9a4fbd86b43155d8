package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ddprun/ddprun/launch/agree"
	"github.com/ddprun/ddprun/launch/mesh"
)

const (
	helloVersion   = 1
	probeTimeout   = 3 * time.Second  // for one try of a data-plane path
	sharedTimeout  = 30 * time.Second // for a peer's file to be seen: network file systems remember for a while that there was none
	probedAtOnce   = 64
	watchedPaths   = 8 // of a node while workers run, to the members after it
	callStore      = "store"
	callStatus     = "status"
	presenceFormat = "node-%s" // below output_dir/.ddprun: a file that shows that the directory is shared
)

// hello is what agents tell each other before anything else. All but the node must be the same everywhere.
type hello struct {
	Version  int               `json:"version"`
	RunID    string            `json:"run_id"`
	MinNodes int               `json:"min_nodes"`
	MaxNodes int               `json:"max_nodes"`
	Lease    time.Duration     `json:"lease"`
	Digests  map[string]string `json:"digests"` // by what was digested: configuration, model, ...; program: its version
	Node     agree.Node        `json:"node"`
}

// admit says why an agent cannot take part.
func (h hello) admit(other hello) error {
	switch {
	case other.Version != h.Version:
		return fmt.Errorf("it speaks version %d of the agents' protocol, and this agent %d: install one version everywhere", other.Version, h.Version)
	case other.RunID != h.RunID:
		return fmt.Errorf("it belongs to run %q, and this agent to %q: give both one --run-id, or other ports", other.RunID, h.RunID)
	case other.MinNodes != h.MinNodes || other.MaxNodes != h.MaxNodes:
		return fmt.Errorf("it was started with --nnodes %d:%d, and this agent with %d:%d", other.MinNodes, other.MaxNodes, h.MinNodes, h.MaxNodes)
	case other.Lease != h.Lease:
		return fmt.Errorf("it was started with --lease %v, and this agent with %v", other.Lease, h.Lease)
	}
	for _, what := range slices.Sorted(maps.Keys(h.Digests)) {
		if mine, its := h.Digests[what], other.Digests[what]; mine != its {
			return fmt.Errorf("its %s is another one (%s, and here %s)", what, its, mine)
		}
	}
	return nil
}

// peers is this agent's connection with the others.
type peers struct {
	run    *run
	mesh   *mesh.Mesh
	inputs chan agree.Input // what the mesh tells the machine
	ended  chan struct{}

	mu    sync.Mutex
	known map[string]mesh.Peer
}

// meet begins to look for the other agents.
func (r *run) meet(ctx context.Context) (*peers, error) {
	p := &peers{run: r, inputs: make(chan agree.Input), ended: make(chan struct{}), known: map[string]mesh.Peer{}}
	if err := p.leaveMark(); err != nil {
		return nil, err
	}
	mine := r.hello()
	m, err := mesh.Start(ctx, mesh.Config{
		ID: r.self.ID, RunID: r.RunID, Key: r.Key, Listen: r.Listen, Advertise: r.Advertise, Port: r.Port,
		Join: r.Join, JoinTimeout: r.JoinTimeout, Resolve: r.Resolve, Logger: r.Logger,
		Hello: mustJSON(mine),
		Admit: func(data json.RawMessage) error {
			var other hello
			if err := json.Unmarshal(data, &other); err != nil {
				return fmt.Errorf("its greeting cannot be read: %w", err)
			}
			return mine.admit(other)
		},
	}, p.answer)
	if err != nil {
		return nil, err
	}
	p.mesh = m
	r.self.Addr = m.Advertised()
	go p.listen()
	return p, nil
}

func (r *run) hello() hello {
	return hello{Version: helloVersion, RunID: r.RunID, MinNodes: r.MinNodes, MaxNodes: r.MaxNodes, Lease: r.Lease, Digests: r.Digests, Node: r.self}
}

// listen turns what the mesh tells into inputs.
func (p *peers) listen() {
	for {
		var in agree.Input
		select {
		case event, open := <-p.mesh.Events():
			if !open {
				return
			}
			in = p.input(event)
		case <-p.ended:
			return
		}
		if in == nil {
			continue
		}
		select {
		case p.inputs <- in:
		case <-p.ended:
			return
		}
	}
}

func (p *peers) input(event mesh.Event) agree.Input {
	switch e := event.(type) {
	case mesh.Up:
		h, err := helloOf(e.Peer)
		if err != nil || h.Node.ID != e.Peer.ID {
			p.run.Logger.Warn().Str("peer", e.Peer.ID).Msg("a peer is passed over: its greeting does not name it")
			return nil
		}
		if host, _, err := net.SplitHostPort(e.Peer.Addr); err == nil {
			h.Node.Addr = host // its ranks are reached where it is
		}
		p.mu.Lock()
		p.known[e.Peer.ID] = e.Peer
		p.mu.Unlock()
		go p.checkShared(h.Node)
		return agree.Connected{Node: h.Node}
	case mesh.Down:
		p.mu.Lock()
		peer := p.known[e.ID]
		delete(p.known, e.ID)
		p.mu.Unlock()
		if h, err := helloOf(peer); err == nil && !e.Farewell {
			go p.remind(h.Node)
		}
		return agree.Disconnected{ID: e.ID, Farewell: e.Farewell}
	case mesh.Message:
		var m agree.Message
		if err := json.Unmarshal(e.Payload, &m); err != nil {
			p.run.Logger.Warn().Err(err).Str("peer", e.From).Msg("a message is passed over")
			return nil
		}
		return agree.Heard{From: e.From, Message: m}
	}
	return nil
}

func (p *peers) send(to string, m agree.Message) { p.mesh.Send(to, mustJSON(m)) }

// rpc is a question between agents.
type rpc struct {
	Kind string          `json:"kind"`
	Data json.RawMessage `json:"data,omitempty"`
}

// call asks another agent.
func (p *peers) call(ctx context.Context, to, kind string, question, answer any) error {
	reply, err := p.mesh.Call(ctx, to, mustJSON(rpc{kind, mustJSON(question)}))
	if err != nil {
		return err
	}
	return json.Unmarshal(reply, answer)
}

// answer answers another agent.
func (p *peers) answer(ctx context.Context, _ string, request json.RawMessage) (json.RawMessage, error) {
	var q rpc
	if err := json.Unmarshal(request, &q); err != nil {
		return nil, err
	}
	var answer any
	var err error
	switch q.Kind {
	case callStore:
		answer, err = p.run.stores.answer(ctx, q.Data)
	case callStatus:
		answer = p.run.status()
	default:
		err = fmt.Errorf("unknown question %q", q.Kind)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}

// testPaths tries the paths to other members.
func (p *peers) testPaths(number int, nodes []agree.Node) agree.Paths {
	result := agree.Paths{Number: number}
	var mu sync.Mutex
	var all sync.WaitGroup
	slots := make(chan struct{}, probedAtOnce)
	for _, node := range nodes {
		if node.ID == p.run.self.ID {
			continue
		}
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := p.probe(context.Background(), node.ID); err != nil {
				p.run.Logger.Warn().Err(err).Str("node", node.ID).Str("host", node.Host).Msg("no path to a node")
				mu.Lock()
				defer mu.Unlock()
				result.Unreachable = append(result.Unreachable, node.ID)
			}
		})
	}
	all.Wait()
	return result
}

// probe tries the path to a node once. One that this agent is not connected with yet gets as long as the try may take: a plan can come sooner.
func (p *peers) probe(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	for {
		p.mu.Lock()
		peer, found := p.known[id]
		p.mu.Unlock()
		if found {
			return p.mesh.Probe(ctx, peer.Addr)
		}
		select {
		case <-ctx.Done():
			return errors.New("not connected")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// watchPaths tries, while an attempt runs, the paths to the members that come after this one, and says which has not worked for a lease.
func (p *peers) watchPaths(a *attempt) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-a.ended
		cancel()
	}()
	members := a.record.Members
	for i := range min(watchedPaths, len(members)-1) {
		go p.watchPath(ctx, a.record.Number, members[(a.me.GroupRank+1+i)%len(members)].ID)
	}
}

func (p *peers) watchPath(ctx context.Context, number int, id string) {
	err := untilLost(ctx, p.run.Lease, func(ctx context.Context) error { return p.probe(ctx, id) })
	if ctx.Err() == nil {
		p.run.Logger.Warn().Err(err).Str("node", id).Msg("the path to a node no longer works")
		p.run.tell(agree.PathLost{Number: number, ID: id})
	}
}

// untilLost tries again and again, and returns why the newest try has failed once none has worked for a lease, or when ctx ends. A try does not wait for the one before,
// and two in a row have to fail: a path that loses some packets, as in a congestion, is slow and not lost.
func untilLost(ctx context.Context, lease time.Duration, try func(context.Context) error) (err error) {
	ctx, cancel := context.WithCancel(ctx) // ends the tries under way
	defer cancel()
	tick := time.NewTicker(lease / 4)
	defer tick.Stop()
	results := make(chan error)
	for worked, failures := time.Now(), 0; failures < 2 || time.Since(worked) <= lease; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			go func() {
				select {
				case results <- try(ctx):
				case <-ctx.Done():
				}
			}()
		case err = <-results:
			if failures++; err == nil {
				worked, failures = time.Now(), 0
			}
		}
	}
	return err
}

// leaveMark makes the file by which others see that they share this output directory.
func (p *peers) leaveMark() error {
	path := p.mark(p.run.self.ID)
	err := os.MkdirAll(filepath.Dir(path), 0o777)
	if err == nil {
		err = os.WriteFile(path, []byte(p.run.self.Host+"\n"), 0o666)
	}
	if err != nil {
		return fmt.Errorf("launch: output directory: %w", err)
	}
	return nil
}

func (p *peers) mark(id string) string {
	return filepath.Join(p.run.OutputDir, ".ddprun", fmt.Sprintf(presenceFormat, id))
}

// checkShared looks for another node's file in the output directory. A directory of the same name on two nodes' own disks would give two runs.
func (p *peers) checkShared(node agree.Node) {
	for end := time.Now().Add(sharedTimeout); ; {
		if _, err := os.Stat(p.mark(node.ID)); err == nil {
			return
		} else if time.Now().After(end) {
			p.run.giveUp(fmt.Errorf("launch: output_dir %s is not shared with node %s (%s), whose file is not there (%w): choose a directory on a file system that all nodes mount",
				p.run.OutputDir, node.ID, node.Host, err))
			return
		}
		select {
		case <-p.ended:
			return
		case <-time.After(200 * time.Millisecond):
		}
		p.mu.Lock()
		_, still := p.known[node.ID]
		p.mu.Unlock()
		if !still {
			return
		}
	}
}

// farewell tells the others that this agent leaves in order.
func (p *peers) farewell() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	p.mesh.Farewell(ctx)
}

func (p *peers) close() {
	close(p.ended)
	p.mesh.Close()
	os.Remove(p.mark(p.run.self.ID))
}

func mustJSON(value any) json.RawMessage {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err) // our own structs
	}
	return data
}
