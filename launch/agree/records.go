package agree

import (
	"fmt"
	"time"
)

// records takes in what lies in output_dir.
func (m *Machine) records(in Records) {
	m.reading = false
	if m.readErr = in.Err; in.Err != nil {
		m.retryAt = m.now + m.c.Beat
		m.repeat("warn", "the generations in output_dir cannot be read", "error", in.Err.Error())
		return
	}
	if m.looked && (in.Asked < m.look.Asked || in.number() < m.highest()) {
		return // an older look that was late
	}
	if m.claimsOnly {
		in.Next, in.Newest = m.look.Next, m.look.Newest
	}
	first := !m.looked
	if in.number() > m.highest() || first {
		m.seenAt, m.heldFrom = m.now, m.now
	} else if in.Newest > m.look.Newest {
		m.heldFrom = m.now
	}
	m.look, m.looked, m.lookAsk = in, true, m.asks
	if first {
		m.base = m.highest()
		if in.Outcome != nil {
			m.baseEnd = in.Outcome.Generation
		}
		m.finishedBefore()
		return
	}
	m.overtaken()
}

func (r *Records) number() int {
	if r.Highest == nil {
		return -1
	}
	return r.Highest.Number
}

// finishedBefore ends the agent where the run was finished before it began.
func (m *Machine) finishedBefore() {
	o := m.look.Outcome
	if m.c.SkipFinished && o != nil && o.Code == codeDone && o.Digest == m.c.Digest && o.Generation >= m.highest() {
		m.log("info", "the run is finished already", "generation", o.Generation, "step", o.Step)
		m.finish(o)
	}
}

// overtaken looks whether others have ended the run, or taken the directory.
func (m *Machine) overtaken() {
	r := m.look.Highest
	if r != nil && r.Number > m.base && r.RunID != m.c.RunID {
		reason := fmt.Sprintf("another run has taken output_dir: generation %d belongs to run %q of agent %s, this is run %q; give each run its own output_dir",
			r.Number, r.RunID, r.Coordinator, m.c.RunID)
		m.log("error", reason)
		m.finish(m.outcome(codeConfig, reason))
		return
	}
	o := m.ended()
	switch {
	case o == nil:
	case m.lead == nil:
		m.finish(o)
	case m.lead.phase != leadEnd:
		m.lead.tell(m, o)
	}
}

// ended is the outcome that the run has come to while this agent was there: one of the highest generation. nil: it goes on.
func (m *Machine) ended() *Outcome {
	if o := m.look.Outcome; o != nil && o.Generation > m.baseEnd && o.Generation >= m.base && o.Generation == m.highest() {
		return o
	}
	return nil
}

// binding is an outcome that was written while this agent was there, of a generation after which none has run. Who has claimed a later
// one has to take it over: it looks after its claim, and starts nothing if there is one.
func (m *Machine) binding() *Outcome {
	o := m.look.Outcome
	if o == nil || m.c.Exclusive || o.Generation <= m.baseEnd || o.Generation < m.base || o.Generation < m.ranMost || m.is(weakOutcome) {
		return nil
	}
	return o
}

// read asks for the records when somebody needs them.
func (m *Machine) read() {
	if m.reading {
		if m.now-m.askedAt > 2*m.c.Lease {
			m.repeat("warn", "the file system of output_dir does not answer", "since", m.now-m.askedAt)
		}
		return
	}
	if m.now < m.retryAt || !m.wantsLook() {
		return
	}
	m.reading, m.askedAt = true, m.now
	m.asks++
	m.claimsOnly = m.looked && m.lead != nil && m.lead.wantsClaims()
	m.output(ReadRecords{ClaimsOnly: m.claimsOnly})
}

// wantsLook says whether a look at the records is due.
func (m *Machine) wantsLook() bool {
	if !m.looked {
		return true
	}
	if m.rumour > m.highest() && (m.lookAsk <= m.rumourAsks || m.now-m.askedAt >= m.c.Beat) {
		return true
	}
	if m.lead != nil {
		return m.lead.wantsLook(m)
	}
	return m.workers.number < 0 && m.now-m.look.Asked >= m.c.Lease
}

// blind says whether this agent cannot read the records.
func (m *Machine) blind() bool {
	if m.c.Exclusive {
		return false
	}
	since := m.started
	if m.looked {
		since = m.look.Asked
	}
	return m.now-since > 2*m.c.Lease && (m.readErr != nil || m.reading && m.now-m.askedAt > m.c.Lease)
}

// outcome makes an outcome of what is known.
func (m *Machine) outcome(code int, reason string) *Outcome {
	return &Outcome{Code: code, Reason: reason, RunID: m.c.RunID, Digest: m.c.Digest, Generation: m.highest(), Step: max(m.look.Newest, m.newest)}
}

// lease is what is left of a coordinator's own lease: until a lease after its last look that showed no higher claim.
func (m *Machine) lease(l *leader) time.Duration {
	if l.record == nil || m.look.Highest == nil || m.highest() != l.record.Number || m.look.Highest.Coordinator != m.c.Self.ID || m.lookAsk <= l.claimedAsks {
		return 0
	}
	if m.is(weakLook) {
		return m.c.Lease
	}
	return max(0, m.look.Asked+m.c.Lease-m.now)
}
