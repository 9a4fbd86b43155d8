package agree

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Exit codes, as package launch documents them.
const (
	codeDone       = 0
	codeFailed     = 1
	codeComeAgain  = 75
	codeConfig     = 78
	codeNoProgress = 93
)

// maxBarren is how many failures without progress in between end a run for good.
const maxBarren = 3

// An agent that fails so often within lossWindow is left out for excludeFor.
const (
	maxLosses  = 3
	lossWindow = 10 * time.Minute
	excludeFor = 10 * time.Minute
)

// DefaultConfirmTimeout is how long a plan may take to be confirmed by all.
const DefaultConfirmTimeout = 30 * time.Second

// verdict is what follows from the end of a generation.
type verdict struct {
	ran      bool     // it was started, as far as anybody knows
	failed   bool     // it ended by a failure or a loss, not by somebody's coming or leaving
	failure  *Failure // the first; nil: none
	outcome  *Outcome // nil: the run goes on
	cause    string
	restarts int
	barren   int
	losses   []Loss // Ago from when it was judged
}

// judgement judges the end of generation r from what its members have reported. Progress is a newer checkpoint and nothing else:
// workers that trained but committed nothing will do the same work again.
func (l *leader) judgement(m *Machine, r *Record) *verdict {
	v := &verdict{restarts: r.Restarts, barren: r.Barren, losses: m.aged(r)}
	if o := m.look.Outcome; covers(o, r.Number) && final(o.Code) {
		v.restarts, v.barren, v.losses = 0, 0, nil
	}
	newest, done := max(m.look.Newest, r.Start), true
	var first *peer
	for _, member := range r.Members {
		p := m.peers[member.ID]
		if p == nil || p.report == nil || p.report.Ran != r.Number {
			done = false
			continue
		}
		v.ran = true
		newest = max(newest, p.report.Checkpoint)
		done = done && p.report.Busy < 0 && p.report.End == Finished && p.report.Failure == nil
		if p.report.Failure != nil && (first == nil || p.precedes(first)) {
			first = p
		}
	}
	m.newest = max(m.newest, newest)
	if l.owns(r) && l.ran {
		v.ran = true
	}
	if !v.ran {
		v.cause = r.Cause
		return v
	}
	if newest > r.Start {
		v.barren = 0
	}
	if done {
		v.outcome = m.outcome(codeDone, "")
		return v
	}
	if first != nil && (first.report.Failure.Echo < 2 || !l.anyLost(m, r)) {
		v.failed, v.failure = true, first.report.Failure
		v.losses = append(v.losses, Loss{Rank: first.node.Rank, Host: first.node.Host})
		v.cause = fmt.Sprintf("rank %d on %s has failed", v.failure.Rank, first.node.Host)
		l.afterFailure(m, v)
		return v
	}
	l.afterLoss(m, r, v)
	return v
}

// owns says whether this agent has coordinated r.
func (l *leader) owns(r *Record) bool { return l.record != nil && l.record.Number == r.Number }

// precedes says whether p's failure is nearer to the cause than other's.
func (p *peer) precedes(other *peer) bool {
	return cmp.Or(cmp.Compare(p.report.Failure.Echo, other.report.Failure.Echo), cmp.Compare(p.failed, other.failed)) < 0
}

// ended says whether p, which may be nobody, has reported that its workers of generation n have ended.
func (p *peer) ended(n int) bool {
	return p != nil && p.report != nil && p.report.Ran == n && p.report.Busy < 0
}

// afterFailure decides after a worker's failure.
func (l *leader) afterFailure(m *Machine, v *verdict) {
	v.barren++
	end := func(code int, reason string) {
		v.outcome = m.outcome(code, reason)
		v.outcome.Failure = v.failure
	}
	switch {
	case v.failure.ExitCode == codeConfig:
		end(codeConfig, "the configuration or input is wrong")
	case v.failure.Permanent:
		end(codeFailed, "a restart would fail the same way")
	case l.anyLeaves(m):
		// Whether the others go on is decided with the leaving.
	case v.barren >= maxBarren && l.canSpare(m, v):
	case v.barren >= maxBarren:
		end(codeNoProgress, "three failures without a newer checkpoint in between")
	case v.restarts >= m.c.MaxRestarts && m.c.MaxRestarts == 0:
		end(codeFailed, "restarts are off")
	case v.restarts >= m.c.MaxRestarts:
		end(codeFailed, "the restarts are used up")
	}
	v.restarts++
}

// afterLoss decides after the end of a generation in which no worker is known to have failed.
func (l *leader) afterLoss(m *Machine, r *Record, v *verdict) {
	v.cause = "its membership has changed"
	if l.owns(r) && l.reason != "" {
		v.cause = l.reason
	}
	// Workers stop with a checkpoint only together, so who is gone after that has left.
	stopped := slices.ContainsFunc(r.Members, func(member Member) bool {
		p := m.peers[member.ID]
		return p.ended(r.Number) && p.report.End == Stopped
	})
	for _, member := range r.Members {
		p := m.peers[member.ID]
		switch {
		case p.ended(r.Number):
			v.failed = v.failed || p.report.End == Failed || p.report.End == Killed
		case p != nil && p.report != nil && p.report.Gone, p != nil && p.report != nil && p.report.Leaving:
		case p != nil && m.fresh(p):
			v.failed = true // it did not start its workers
		case stopped:
			v.cause = member.Host + " has left"
		default:
			v.failed = true
			v.losses = append(v.losses, Loss{Rank: member.Rank, Host: member.Host})
			v.cause = member.Host + " was lost"
		}
	}
	if !v.failed {
		if l.owns(r) && l.unasked {
			v.outcome = m.outcome(codeComeAgain, "the workers have stopped by themselves")
		}
		return
	}
	if v.barren++; v.barren >= maxBarren && !l.anyLeaves(m) && !l.canSpare(m, v) {
		v.outcome = m.outcome(codeNoProgress, "three failures without a newer checkpoint in between; the last one: "+v.cause)
	}
}

// canSpare says whether a node has failed so often that it is left out from now on, and enough others remain: they get one more
// attempt before the run is given up.
func (l *leader) canSpare(m *Machine, v *verdict) bool {
	before, now := m.excluded(m.aged(m.look.Highest)), m.excluded(v.losses)
	others, spared := 0, false
	for key := range now {
		spared = spared || before[key] == 0
	}
	for _, p := range m.order {
		if m.fresh(p) && p.report.Head == m.c.Self.ID && !p.report.Leaving && now[keyOf(p.node)] == 0 {
			others++
		}
	}
	if !spared || others < m.c.MinNodes {
		return false
	}
	v.barren = maxBarren - 1
	return true
}

// anyLost says whether a member is gone that has not said how its workers have ended: what fails elsewhere is an echo of that.
func (l *leader) anyLost(m *Machine, r *Record) bool {
	return slices.ContainsFunc(r.Members, func(member Member) bool {
		p := m.peers[member.ID]
		return p == nil || p.report == nil || !p.report.Gone && (p.report.Ran < r.Number || p.report.Busy >= 0) && m.lost(p)
	})
}

func (l *leader) anyLeaves(m *Machine) bool {
	return slices.ContainsFunc(m.order, func(p *peer) bool { return m.fresh(p) && p.report.Leaving })
}

// final says whether a run that has ended so begins its budget anew when it is started again.
func final(code int) bool {
	return code == codeDone || code == codeFailed || code == codeConfig || code == codeNoProgress
}

// aged are the losses that a record tells of, as of now.
func (m *Machine) aged(r *Record) []Loss {
	var all []Loss
	for _, loss := range r.Losses {
		loss.Ago += m.now - m.seenAt
		if loss.Ago < lossWindow+excludeFor {
			all = append(all, loss)
		}
	}
	return all
}

// lossesNow are the losses of late, as far as the leader knows.
func (l *leader) lossesNow(m *Machine) []Loss {
	r := m.look.Highest
	if r == nil {
		return nil
	}
	if l.judged != r.Number {
		return m.aged(r)
	}
	var all []Loss
	for _, loss := range l.verdict.losses {
		loss.Ago += m.now - l.judgedAt
		all = append(all, loss)
	}
	return all
}

// keyOf tells nodes apart over the lives of their agents: by declared rank, else by host.
func keyOf(n Node) string {
	if n.Rank >= 0 {
		return fmt.Sprintf("node rank %d", n.Rank)
	}
	return n.Host
}

// excluded says who is left out, and until when.
func (m *Machine) excluded(losses []Loss) map[string]time.Duration {
	ages := map[string][]time.Duration{}
	for _, loss := range losses {
		key := keyOf(Node{Rank: loss.Rank, Host: loss.Host})
		ages[key] = append(ages[key], loss.Ago)
	}
	until := map[string]time.Duration{}
	for key, a := range ages {
		slices.Sort(a) // the youngest first
		for i := 0; i+maxLosses <= len(a); i++ {
			if a[i+maxLosses-1]-a[i] <= lossWindow && a[i] < excludeFor {
				until[key] = m.now + excludeFor - a[i]
				break
			}
		}
	}
	return until
}
