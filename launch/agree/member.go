package agree

import (
	"time"
)

// member does what an agent owes to its coordinator.
func (m *Machine) member() {
	switch {
	case m.end == nil && m.killed != nil:
		m.finish(m.outcome(m.killed.Code, "stopped at once"))
	case m.end == nil && m.mayLeave():
		m.finish(m.outcome(m.leaveCode(), "left: "+m.leaving.Reason))
	}
	if m.end == nil && m.workers.number < 0 {
		m.tooLong()
	}
	if m.end != nil {
		m.leaveAll()
		return
	}
	if m.workers.number >= 0 {
		m.obey()
		return
	}
	m.join()
}

// finish makes this agent end, as soon as its workers are down.
func (m *Machine) finish(o *Outcome) {
	if m.end != nil {
		return
	}
	if m.leaving != nil && o.Code == codeComeAgain {
		own := *o
		own.Code = m.leaveCode()
		o = &own
	}
	m.end = o
}

// leaveAll ends this agent.
func (m *Machine) leaveAll() {
	if m.workers.number >= 0 {
		m.stopWorkers(StopNow, m.end.Reason)
		return
	}
	r := m.report()
	r.Gone = true
	for _, p := range m.order {
		if p.connected && p != m.self {
			m.send(p, Message{Kind: kindReport, Report: &r})
		}
	}
	m.output(Exit{*m.end})
	m.exited = true
}

// obey ends workers that may not run any longer.
func (m *Machine) obey() {
	n := m.workers.number
	if m.highest() > n {
		m.stopWorkers(StopNow, "a later generation was claimed")
		return
	}
	p := m.peers[m.workers.record.Coordinator]
	if p == nil {
		return
	}
	if p != m.self && !p.connected && m.now-p.since > 2*m.c.Beat {
		m.stopWorkers(StopNow, "the connection with the coordinator is lost")
		return
	}
	if w := p.word; w != nil && w.Number == n && w.Phase == phaseStop {
		m.stopWorkers(w.How, w.Reason)
	}
}

// expireLease ends workers whose lease has run out. They know it by themselves too.
func (m *Machine) expireLease() {
	if m.workers.number >= 0 && !m.c.Exclusive && m.now >= m.workers.until {
		m.stopWorkers(StopNow, "the coordinator has not answered for a lease")
	}
}

// stopWorkers asks for the workers' end, once a way.
func (m *Machine) stopWorkers(how StopHow, reason string) {
	if m.workers.stop == StopNow || m.workers.stop == how {
		return
	}
	m.workers.stop = how
	if m.workers.failure != nil {
		return // they are being ended
	}
	m.output(StopWorkers{Number: m.workers.number, How: how, Reason: reason})
}

// join does what leads from a record to workers: nothing is believed that the record itself does not say.
func (m *Machine) join() {
	r := m.look.Highest
	if r == nil || m.leaving != nil {
		return
	}
	p := m.peers[r.Coordinator]
	if p == nil || p.word == nil || p.word.Number != r.Number {
		return
	}
	i := r.Index(m.c.Self.ID)
	switch w := p.word; {
	case i < 0:
		if m.tried == r.Number && len(m.missing) > 0 && m.now-m.triedAt >= leftOutFor {
			m.tried = -1
		}
		if w.Phase == phaseRun && w.Probe {
			m.try(r)
		}
	case w.Phase == phaseConfirm:
		m.try(r)
	case w.Phase == phaseRun && m.tried == r.Number && m.workers.ran < r.Number:
		m.start(r)
	}
}

// try asks for the paths to the members to be tried.
func (m *Machine) try(r *Record) {
	if m.tried >= r.Number || m.trying >= r.Number {
		return
	}
	var others []Node
	for _, other := range r.Members {
		if other.ID != m.c.Self.ID {
			others = append(others, other.Node)
		}
	}
	if len(others) == 0 {
		m.tried, m.missing = r.Number, nil
		return
	}
	m.trying = r.Number
	m.output(TestPaths{Number: r.Number, Nodes: others})
}

// start starts the workers, if there is a lease.
func (m *Machine) start(r *Record) {
	if !m.c.Exclusive {
		if m.grant.number != r.Number || m.grant.until-m.now < m.c.Lease/4 {
			return
		}
		m.output(Lease{Number: r.Number, Until: m.grant.until})
	}
	m.workers = workers{number: r.Number, record: r, until: m.grant.until, ran: r.Number}
	m.joined = true
	m.output(StartWorkers{*r})
}

// told notes the word of another agent, or of this agent's own leader.
func (m *Machine) told(p *peer, w *Word) {
	p.word, p.wordAt = w, m.now
	leads := w.Head == p.node.ID
	if p.unable = 0; !w.Able {
		p.unable = m.now + max(w.Unable, 2*m.c.Lease)
	}
	if leads && p != m.head && p != m.self && !p.asked {
		p.asked, m.asked = true, append(m.asked, p)
	}
	if w.Highest > m.rumour {
		m.rumour, m.rumourAsks = w.Highest, m.asks
	}
	if leads && (w.Phase == phaseRun || w.Phase == phaseStop) {
		m.idle = m.now
	}
	if m.is(weakSent) {
		w.Echo = m.now
	}
	if until := w.Echo + w.Left; w.Left > 0 && until > m.now {
		if m.grant.number != w.Number || m.grant.until < until {
			m.grant = grant{w.Number, until}
		}
		if m.workers.number == w.Number && m.workers.until < until {
			m.workers.until = until
			if m.workers.stop != StopNow {
				m.output(Lease{Number: w.Number, Until: until})
			}
		}
	}
	if f := w.Failed; f != nil && f.Number > m.failed && f.Number <= m.workers.ran && (p == m.head || p == m.self) {
		m.failed = f.Number
		m.output(FirstFailure{f.Number, f.Failure})
	}
	if p == m.head && p != m.self && w.Reason != "" && m.workers.number < 0 && (w.Phase == phaseGather || w.Phase == phaseRun) {
		m.repeat("info", "waiting: "+w.Reason)
	}
	switch {
	case p != m.head || p == m.self:
	case w.End != nil && w.End.Generation >= m.workers.number:
		m.finish(w.End)
	case w.Dismiss && m.leaving != nil && m.workers.number < 0:
		m.finish(m.outcome(m.leaveCode(), "left: "+m.leaving.Reason))
	}
}

func (m *Machine) workersFailed(in WorkersFailed) {
	if in.Number != m.workers.number {
		return
	}
	m.workers.failure = &in.Failure // the later account knows more
}

func (m *Machine) workersDown(in WorkersDown) {
	if in.Number != m.workers.number {
		return
	}
	m.workers.number, m.workers.stop, m.workers.end = -1, "", in.End
	m.workers.checkpoint = max(m.workers.checkpoint, in.Checkpoint)
	if in.End == Finished || in.End == Stopped {
		m.workers.failure = nil // what seemed to be one was the answer to a stop
	}
	m.idle, m.downAt = m.now, m.now
}

// mayLeave says whether an agent that wants to leave need not wait for a checkpoint or its coordinator any more.
func (m *Machine) mayLeave() bool {
	if m.leaving == nil || m.workers.number >= 0 {
		return false
	}
	if m.lead != nil && m.head == m.self {
		return m.lead.mayLeave(m)
	}
	awaits := m.workers.ran >= 0 && m.workers.ran == m.highest() && m.now-m.downAt < m.c.Lease
	return !awaits
}

// leaveCode is what to exit with after Leave.
func (m *Machine) leaveCode() int {
	if m.workers.ran < 0 || m.workers.end == Stopped || m.workers.end == Finished || m.leaving.Code == 0 {
		return codeComeAgain
	}
	return m.leaving.Code
}

// limit is when this agent has waited too long for a generation.
func (m *Machine) limit() (at time.Duration, code int) {
	if m.joined {
		return m.idle + m.c.RejoinTimeout, codeComeAgain
	}
	return m.idle + m.c.JoinTimeout, codeFailed
}

// tooLong ends an agent whose leader, if it has one, should have done so.
func (m *Machine) tooLong() {
	at, code := m.limit()
	if m.lead != nil || m.now < at+2*m.c.Lease {
		return
	}
	reason := "no generation has begun in time"
	if m.head != nil {
		reason += ": the leader " + m.head.node.ID + " on " + m.head.node.Host + " has not made one"
	}
	m.log("error", reason)
	m.finish(m.outcome(code, reason))
}

// report says how this agent is.
func (m *Machine) report() Report {
	r := Report{
		Highest: m.highest(), Busy: m.workers.number, Ran: m.workers.ran, End: m.workers.end, Checkpoint: m.workers.checkpoint,
		Failure: m.workers.failure, LostPaths: m.workers.lostPaths, Tried: m.tried, Unreachable: m.missing, Reach: m.reach, Told: m.failed,
	}
	if m.head != nil {
		r.Head, r.HeadOK = m.head.node.ID, m.head == m.self || m.leads(m.head)
	}
	if m.leaving != nil {
		r.Leaving, r.LeaveCode, r.Reason = true, m.leaving.Code, m.leaving.Reason
	}
	return r
}

// leads says whether an agent has said lately that it leads.
func (m *Machine) leads(p *peer) bool {
	return p.connected && p.word != nil && p.word.Head == p.node.ID && p.word.Able && m.now-p.wordAt <= m.c.Lease
}
