package agree

import "fmt"

// run watches over the members.
func (l *leader) run(m *Machine) {
	n, finished := l.record.Number, 0
	for _, member := range l.record.Members {
		p := m.peers[member.ID]
		r := p.report
		switch {
		case r != nil && r.Ran == n && r.Failure != nil:
			l.stop(m, StopNow, fmt.Sprintf("rank %d on %s has failed: %s", r.Failure.Rank, member.Host, r.Failure.Message))
		case r != nil && r.Ran == n && r.Busy < 0 && r.End == Finished:
			finished++
		case r != nil && r.Ran == n && r.Busy < 0 && r.End == Stopped:
			l.unasked = true
			l.stop(m, StopCheckpoint, "the workers on "+m.name(member.ID)+" have stopped by themselves")
		case r != nil && r.Ran == n && r.Busy < 0:
			l.stop(m, StopNow, "the workers on "+m.name(member.ID)+" have ended")
		case m.lost(p):
			l.stop(m, StopNow, m.name(member.ID)+" is lost")
		case r != nil && r.Ran < n && m.now-l.since > m.c.Lease:
			l.stop(m, StopNow, m.name(member.ID)+" has not started its workers")
		case r != nil && r.Ran == n && len(r.LostPaths) > 0:
			l.stop(m, StopNow, "the path between "+m.name(member.ID)+" and "+m.names(r.LostPaths)+" is lost")
		case r != nil && r.Leaving:
			l.stop(m, StopCheckpoint, m.name(member.ID)+" leaves: "+r.Reason)
		}
	}
	switch {
	case l.phase != leadRun:
	case finished == len(l.record.Members):
		l.enter(m, leadDrain)
	case !m.c.Exclusive && m.lease(l) == 0:
		l.stop(m, StopNow, fmt.Sprintf("the coordinator has not read output_dir for %v: the file system does not answer, or the agent was stopped", m.c.Lease))
	case finished == 0:
		l.invite(m)
	}
}

// stop ends the generation.
func (l *leader) stop(m *Machine, how StopHow, reason string) {
	if l.phase == leadDrain && (l.how == StopNow || how == StopCheckpoint) {
		return
	}
	level := "warn"
	if how == StopCheckpoint {
		level = "info"
	}
	m.log(level, "ending the generation", "generation", l.record.Number, "reason", reason, "how", string(how))
	if l.phase != leadDrain {
		l.enter(m, leadDrain)
	}
	l.how = how
	if l.reason == "" {
		l.reason = reason
	}
}

// invite ends the generation with a checkpoint when there are newcomers for whom there is room.
func (l *leader) invite(m *Machine) {
	room := m.c.MaxNodes - len(l.record.Members)
	if room <= 0 {
		return
	}
	var comers []string
	for _, p := range l.eligible(m) {
		if l.members[p.node.ID] {
			continue
		}
		if r := p.report; r.Tried != l.record.Number || len(r.Unreachable) > 0 {
			continue
		}
		comers = append(comers, p.node.ID)
		if !l.known[p.node.ID] {
			l.known[p.node.ID], l.comers = true, m.now
		}
	}
	if len(comers) == 0 || len(comers) < room && m.now-l.comers < m.c.LastCall {
		return
	}
	l.stop(m, StopCheckpoint, m.names(comers)+" joins")
}

// drain waits until the members' workers are down. What fails meanwhile ends the others at once: they may wait for it in vain.
func (l *leader) drain(m *Machine) {
	n, waits := l.record.Number, false
	for _, member := range l.record.Members {
		p := m.peers[member.ID]
		r := p.report
		ran := r != nil && r.Ran == n
		down := ran && r.Busy < 0
		switch {
		case r != nil && r.Gone:
		case m.lost(p):
			if !down {
				l.stop(m, StopNow, m.name(member.ID)+" is lost")
			}
		case ran && r.Failure != nil:
			l.stop(m, StopNow, fmt.Sprintf("rank %d on %s has failed: %s", r.Failure.Rank, member.Host, r.Failure.Message))
			waits = waits || !down
		case down && r.End != Finished && r.End != Stopped:
			l.stop(m, StopNow, "the workers on "+m.name(member.ID)+" have ended")
		default:
			waits = waits || r == nil || r.Busy >= 0
		}
	}
	if !waits {
		l.regather(m)
	}
}
