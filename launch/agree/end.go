package agree

import "time"

// finish ends the run with an outcome. filed: it has to lie in output_dir, under the highest generation, which this agent therefore
// has to own: else it claims one more.
func (l *leader) finish(m *Machine, o *Outcome, filed bool) {
	l.outcome, l.filed, l.writtenAsks = o, filed, -1
	if filed && !m.c.Exclusive && (l.record == nil || l.record.Number != m.highest()) {
		l.pending = l.plan(m, []*peer{m.self})
		l.enter(m, leadClaim)
		m.output(Claim{*l.pending})
		return
	}
	l.enter(m, leadEnd)
}

// tell ends the run with an outcome that lies in output_dir already.
func (l *leader) tell(m *Machine, o *Outcome) {
	l.outcome, l.telling = o, true
	l.enter(m, leadEnd)
}

// end files the outcome when no workers can be left, looks whether it counts, tells the others and waits a little for them to go.
func (l *leader) end(m *Machine) {
	switch {
	case m.workers.number >= 0:
		m.stopWorkers(StopNow, l.outcome.Reason)
	case l.telling:
		if l.alone(m) || m.now-l.since > m.c.Lease {
			m.finish(l.outcome)
		}
	case !l.filed:
		l.tell(m, l.outcome)
	case l.writing:
	case l.writtenAsks < 0:
		if m.now >= m.retryAt && l.quiet(m) && (m.c.Exclusive || m.lookAsk > l.asks) {
			if o := m.binding(); o != nil && o.Generation < l.outcome.Generation {
				adopted := *o
				adopted.Generation = l.outcome.Generation
				l.outcome = &adopted
			}
			l.writing = true
			m.output(WriteOutcome{*l.outcome})
		}
	case m.c.Exclusive || m.ended() != nil && m.lookAsk > l.writtenAsks:
		l.tell(m, l.outcome)
	}
}

// written takes the answer to WriteOutcome.
func (l *leader) written(m *Machine, in OutcomeWritten) {
	if !l.writing {
		return
	}
	l.writing = false
	if in.Err == nil {
		l.writtenAsks = m.asks
		return
	}
	m.repeat("warn", "the outcome cannot be written", "error", in.Err.Error())
	m.retryAt = m.now + m.c.Beat
	if m.c.Exclusive || m.now-l.since > unwritten {
		l.tell(m, l.outcome)
	}
}

// unwritten is how long it is tried to file an outcome.
const unwritten = time.Minute

// quiet says whether no workers of this or an earlier generation can be left.
func (l *leader) quiet(m *Machine) bool {
	if m.c.Exclusive || l.record == nil {
		return true
	}
	if !l.ran && !l.safe(m) {
		return false
	}
	for id, until := range l.granted {
		p := m.peers[id]
		down := p != nil && p.report != nil && (p.report.Gone || p.report.Busy < 0 && p.report.Ran >= l.record.Number)
		if !down && m.now < until+m.margin() {
			return false
		}
	}
	return true
}

// alone says whether nobody is left to be told.
func (l *leader) alone(m *Machine) bool {
	for _, p := range m.order {
		if p != m.self && p.connected && (p.report == nil || !p.report.Gone) {
			return false
		}
	}
	return true
}
