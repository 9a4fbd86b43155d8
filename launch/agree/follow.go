package agree

import "slices"

// follow finds whom to follow: the coordinator of the highest record while it can be heard and leads, so that a generation
// is followed by the next at once; else the first in order of those who can lead.
func (m *Machine) follow() {
	if l := m.lead; l != nil && l.record != nil && m.highest() > l.record.Number {
		m.log("warn", "another agent has claimed a later generation", "generation", m.highest(), "coordinator", m.look.Highest.Coordinator)
		if p := m.peers[m.look.Highest.Coordinator]; p == nil || !p.connected {
			m.hold = min(2*max(m.hold, 2*m.c.Lease), max(m.c.RejoinTimeout, m.c.Lease))
		}
		m.lead = nil
	}
	h := m.chooseHead()
	if h != m.head {
		m.head, m.headAt = h, m.now
		if h != nil {
			m.log("debug", "follows", "head", h.node.ID)
		}
	}
	if h != nil && h != m.self && m.now-max(m.headAt, h.wordAt) > m.c.Lease && m.now >= m.graceUntil {
		h.unable = m.now + 4*m.c.Lease // it is there and does not answer
	}
	switch {
	case h == m.self && m.lead == nil:
		m.lead = newLeader(m)
	case h != m.self && m.lead != nil && m.lead.phase == leadGather:
		m.lead = nil
	}
}

// chooseHead goes from a leader that leads to another one only if that one comes before it and says that it leads, or has not been asked yet:
// who may be able again is not tried at the cost of who is.
func (m *Machine) chooseHead() *peer {
	if m.lead != nil && m.lead.phase != leadGather {
		return m.self
	}
	if w := m.workers; w.number >= 0 {
		if p := m.peers[w.record.Coordinator]; p != nil && p.connected && p != m.self {
			return p
		}
	}
	settled := m.head != nil && (m.head != m.self && m.leads(m.head) || m.head == m.self && m.lead.followed(m))
	takes := func(p *peer) bool {
		return m.willing(p) && (!settled || p == m.head || p.word == nil || m.leads(p))
	}
	if r := m.look.Highest; r != nil {
		if p := m.peers[r.Coordinator]; p != nil && takes(p) {
			return p
		}
	}
	for _, p := range m.order {
		if takes(p) {
			return p
		}
	}
	return nil
}

// followed says whether another agent follows this one.
func (l *leader) followed(m *Machine) bool {
	return l != nil && slices.ContainsFunc(m.order, func(p *peer) bool { return p != m.self && m.fresh(p) && p.report.Head == m.c.Self.ID })
}

// willing says whether an agent may be taken for the leader.
func (m *Machine) willing(p *peer) bool {
	if p == m.self {
		return m.able()
	}
	switch {
	case !p.connected, m.now < p.unable, p.report != nil && (p.report.Gone || p.report.Leaving):
		return false
	case p.word != nil && p.word.Head != p.node.ID && m.now-p.wordAt < 2*m.c.Lease:
		return false // it follows another one
	}
	return true
}

// able says whether this agent could lead.
func (m *Machine) able() bool {
	return m.end == nil && m.now >= m.unable && !m.blind() && (m.leaving == nil || m.lead != nil)
}

// selfReport gives this agent's report to its own leader.
func (m *Machine) selfReport() {
	r := m.report()
	m.self.sent = m.now
	m.reported(m.self, &r)
}

// speak sends what is to be said.
func (m *Machine) speak(beat bool) {
	r := m.report()
	if h := m.head; h != nil && h != m.self && (beat || h.asked || !r.same(&m.last)) {
		h.asked = false
		m.last = r
		m.send(h, Message{Kind: kindReport, Report: &r})
	}
	asked := m.asked
	m.asked = nil
	for _, p := range asked {
		if p.asked = false; p.connected && p != m.head {
			m.send(p, Message{Kind: kindReport, Report: &r})
		}
	}
	answers := m.answers
	m.answers = nil
	for _, p := range answers {
		if p.answer = false; p.connected {
			m.tell(p, m.word(p))
		}
	}
	if m.lead == nil {
		return
	}
	for _, p := range m.order {
		if p == m.self || !p.connected {
			continue
		}
		if w := m.word(p); m.lead.concerns(p) && changed(p.told, w) || beat && m.lead.polls(m, p) {
			m.tell(p, w)
		}
	}
}

// tell sends a word.
func (m *Machine) tell(p *peer, w Word) {
	p.told, p.toldAt = w, m.now
	if m.lead != nil && w.Left > 0 {
		m.lead.granted[p.node.ID] = m.now + w.Left
	}
	m.send(p, Message{Kind: kindWord, Word: &w})
}

// changed says whether what an agent was told is no longer all there is to say.
func changed(old, w Word) bool {
	old.Echo, old.Left, old.Unable = w.Echo, w.Left, w.Unable
	return old != w
}

// same says whether two reports tell the same, but for what can wait for the next beat.
func (r *Report) same(o *Report) bool {
	if !slices.Equal(r.LostPaths, o.LostPaths) || !slices.Equal(r.Unreachable, o.Unreachable) {
		return false
	}
	return r.Head == o.Head && r.HeadOK == o.HeadOK && r.Highest == o.Highest && r.Busy == o.Busy && r.Ran == o.Ran &&
		r.End == o.End && r.Checkpoint == o.Checkpoint && r.Failure == o.Failure && r.Tried == o.Tried && r.Told == o.Told && r.Leaving == o.Leaving && r.Gone == o.Gone
}

// word is what p is to be told.
func (m *Machine) word(p *peer) Word {
	w := Word{Highest: m.highest(), Number: -1, Phase: phaseGather, Able: m.able()}
	if m.now < m.unable {
		w.Unable = m.unable - m.now
	}
	if m.head != nil {
		w.Head = m.head.node.ID
	}
	if p.report != nil {
		w.Echo = p.sent
	}
	if m.lead != nil {
		m.lead.word(m, p, &w)
	}
	return w
}

func (m *Machine) send(p *peer, message Message) {
	m.seq++
	message.Seq, message.Sent = m.seq, m.now
	m.output(Send{To: p.node.ID, Message: message})
}

// fresh says whether an agent is connected and has reported within a lease.
func (m *Machine) fresh(p *peer) bool {
	return p == m.self || p.connected && p.report != nil && !p.report.Gone && m.now-p.heard <= m.c.Lease
}

// lost says whether a member has to be given up: it is not heard any more.
func (m *Machine) lost(p *peer) bool {
	switch {
	case p == nil:
		return true
	case p == m.self || m.now < m.graceUntil:
		return false
	case p.report != nil && p.report.Gone:
		return true
	case !p.connected:
		return m.now-p.since > 2*m.c.Beat
	}
	return m.now-max(p.heard, p.since) > m.c.Lease
}
