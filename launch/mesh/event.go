package mesh

import "encoding/json"

// Event is something that has happened. Exactly the types below.
type Event interface{ event() }

// Events.
type (
	// Up says that a peer can be heard and hears this agent.
	Up struct{ Peer }
	// Down says that it does not any more. The same agent may come up again, unless it has left.
	Down struct {
		ID       string
		Farewell bool // it has left in order
	}
	// Message is what a peer has sent.
	Message struct {
		From    string
		Payload json.RawMessage
	}
)

// Peer is another agent of the job.
type Peer struct {
	ID    string
	Hello json.RawMessage // its Config.Hello
	Addr  string          // host:port of its control, at the address it advertises
}

func (Up) event()      {}
func (Down) event()    {}
func (Message) event() {}

// state is what there is to tell of a peer, at one time.
type state struct {
	up    bool
	epoch uint64 // how often it has come up
	left  bool
	peer  Peer
}

// stateLocked is p's state now.
func (p *peer) stateLocked() state {
	return state{up: p.up, epoch: p.epoch, left: p.left, peer: Peer{ID: p.id, Hello: p.hello, Addr: p.addr}}
}

// received is a message on its way to Events, with the state of its sender when it came.
type received struct {
	from    *peer
	state   state
	payload json.RawMessage
}

// deliver waits until whoever reads Events is about to get payload.
func (m *Mesh) deliver(c *conn, payload json.RawMessage) {
	m.mu.Lock()
	s := c.peer.stateLocked()
	m.mu.Unlock()
	if !s.up {
		return
	}
	select {
	case m.inbox <- received{c.peer, s, payload}:
	case <-c.done:
	case <-m.ctx.Done():
	}
}

// tell writes Events. States are not queued but looked up when there is room, so a reader that sleeps costs no memory; a peer that went down
// and came up meanwhile is told as both.
func (m *Mesh) tell() {
	for {
		select {
		case <-m.dirty:
			for p, s := range m.takeChanged() {
				m.tellState(p, s)
			}
		case r := <-m.inbox:
			if said := r.from.said; r.state.epoch > said.epoch || (r.state.epoch == said.epoch && said.up) {
				m.tellState(r.from, r.state)
				m.emit(Message{From: r.from.id, Payload: r.payload})
			}
		case <-m.ctx.Done():
			return
		}
	}
}

// tellState says what is new about p, unless what is newer has been said.
func (m *Mesh) tellState(p *peer, now state) {
	before := p.said
	if now.epoch < before.epoch || (now.epoch == before.epoch && (now.up == before.up || now.up)) {
		return
	}
	p.said = now
	if before.up {
		m.emit(Down{ID: p.id, Farewell: now.left && !now.up})
	}
	if now.up {
		m.emit(Up{now.peer})
	}
}

func (m *Mesh) emit(e Event) {
	select {
	case m.events <- e:
	case <-m.ctx.Done():
	}
}

// changedLocked notes that p's state is to be told.
func (m *Mesh) changedLocked(p *peer) {
	m.changed[p] = true
	select {
	case m.dirty <- struct{}{}:
	default:
	}
}

func (m *Mesh) takeChanged() map[*peer]state {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make(map[*peer]state, len(m.changed))
	for p := range m.changed {
		list[p] = p.stateLocked()
	}
	clear(m.changed)
	return list
}
