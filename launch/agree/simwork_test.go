package agree

import (
	"fmt"
	"time"
)

// world is the workers of a generation: they train when all are there, and fail when one is not.
type world struct {
	s      *sim
	record Record
	jobs   map[string]*job
	begun  bool
	step   int64
	stop   bool // a checkpoint is wanted, then the end
	saving bool
	over   bool
}

// job is the workers of one node in a generation.
type job struct {
	p      *process
	world  *world
	record Record
	until  time.Duration // their lease, in real time
	dead   bool
	how    StopHow
	failed bool // by itself
	echoed bool
}

func (s *sim) startJob(p *process, r Record) {
	if len(p.jobs) > 0 && !p.jobs[len(p.jobs)-1].dead {
		s.violate("%s starts workers of generation %d while some of another are there", p.node.ID, r.Number)
	}
	if r.Index(p.node.ID) < 0 {
		s.violate("%s starts workers of generation %d without being a member", p.node.ID, r.Number)
	}
	w := s.worlds[r.Number]
	if w == nil {
		w = &world{s: s, record: r, jobs: map[string]*job{}}
		s.worlds[r.Number] = w
	}
	if w.jobs[p.node.ID] != nil {
		s.violate("%s starts its workers of generation %d twice", p.node.ID, r.Number)
	}
	j := &job{p: p, world: w, record: r}
	lease := p.m.workers.until
	j.until = p.real(lease)
	p.jobs = append(p.jobs, j)
	w.jobs[p.node.ID] = j
	s.note("%s starts workers of generation %d, lease to %.3f", p.node.ID, r.Number, j.until.Seconds())
	s.exclusive(j)
	j.watch()
	if len(w.jobs) == len(r.Members) {
		s.after(s.between(10*time.Millisecond, 500*time.Millisecond), w.begin)
	} else {
		s.after(s.between(50*time.Millisecond, 500*time.Millisecond), w.tend)
	}
}

// exclusive checks that no workers of two generations may run at once.
func (s *sim) exclusive(j *job) {
	for _, h := range s.hosts {
		if h.p == nil {
			continue
		}
		for _, other := range h.p.jobs {
			if !other.dead && other.record.Number != j.record.Number && other.until > s.now && j.until > s.now {
				s.violate("workers of generations %d (%s) and %d (%s) may run at once", other.record.Number, other.p.node.ID, j.record.Number, j.p.node.ID)
			}
		}
	}
	ranks := map[int]string{}
	for _, other := range j.world.jobs {
		if other.dead {
			continue
		}
		i := other.record.Index(other.p.node.ID)
		for rank := range other.record.Members[i].NProc {
			rank += other.record.Members[i].FirstRank
			if ranks[rank] != "" {
				s.violate("rank %d of generation %d runs twice", rank, j.record.Number)
			}
			ranks[rank] = other.p.node.ID
		}
	}
}

// watch ends the workers when their lease is over, whatever becomes of their agent.
func (j *job) watch() {
	until := j.until
	j.p.sim.after(until-j.p.sim.now, func() {
		if !j.dead && j.until == until {
			j.p.sim.note("workers of generation %d at %s end: their lease is over", j.record.Number, j.p.node.ID)
			j.end(Killed)
		}
	})
}

func (p *process) extend(o Lease) {
	if len(p.jobs) == 0 {
		return
	}
	j := p.jobs[len(p.jobs)-1]
	if j.dead || j.record.Number != o.Number {
		return
	}
	if until := p.real(o.Until); until > j.until {
		j.until = until
		p.sim.exclusive(j)
		j.watch()
	}
}

// stopJob does as StopWorkers says.
func (p *process) stopJob(o StopWorkers) {
	if len(p.jobs) == 0 || p.jobs[len(p.jobs)-1].record.Number != o.Number {
		p.sim.violate("%s stops workers of generation %d that it has not", p.node.ID, o.Number)
		return
	}
	s, j := p.sim, p.jobs[len(p.jobs)-1]
	if j.dead {
		return // the machine has yet to hear so
	}
	s.note("%s stops workers of generation %d: %s, %s", p.node.ID, o.Number, o.How, o.Reason)
	j.how = o.How
	if o.How == StopNow {
		s.after(s.between(time.Millisecond, time.Second), func() { j.end(Killed) })
		return
	}
	j.world.stop = true
	if !j.world.begun {
		s.after(s.between(time.Millisecond, time.Second), func() {
			if !j.world.begun {
				j.end(Stopped)
			}
		})
	}
	s.after(25*time.Second, func() { j.end(Killed) })
}

// die ends workers without a word.
func (j *job) die() {
	if !j.dead {
		j.dead = true
		w := j.world
		w.s.after(w.s.between(time.Millisecond, 300*time.Millisecond), w.tend)
	}
}

// end ends workers, and their agent hears of it.
func (j *job) end(how End) {
	if j.dead {
		return
	}
	if j.failed || j.echoed {
		how = Failed
	}
	j.die()
	j.p.sim.note("workers of generation %d at %s are down (%d)", j.record.Number, j.p.node.ID, how)
	j.p.give(WorkersDown{Number: j.record.Number, End: how, Checkpoint: j.p.sim.saved(j.record.Number)})
}

// saved is the newest checkpoint of a generation.
func (s *sim) saved(n int) int64 {
	var newest int64
	for _, c := range s.fs.checkpoints {
		if c.generation == n {
			newest = max(newest, c.step)
		}
	}
	return newest
}

// fail lets workers fail.
func (j *job) fail(f Failure) {
	if j.dead || j.failed || j.echoed {
		return
	}
	j.failed, j.echoed = f.Echo < 2, f.Echo == 2
	s := j.p.sim
	s.note("workers of generation %d at %s fail: %s", j.record.Number, j.p.node.ID, f.Message)
	f.Node = j.p.node.ID
	j.p.give(WorkersFailed{Number: j.record.Number, Failure: f})
	s.after(s.between(time.Millisecond, time.Second), func() { j.end(Failed) })
}

// tend lets workers notice that others are gone.
func (w *world) tend() {
	if w.over {
		return
	}
	for _, member := range w.record.Members {
		other := w.jobs[member.ID]
		if other == nil || !other.dead {
			continue
		}
		w.over = true
		for _, member := range w.record.Members {
			if j := w.jobs[member.ID]; j != nil && !j.dead && j.how != StopNow {
				w.s.after(w.s.between(time.Millisecond, 500*time.Millisecond), func() { j.fail(Failure{Echo: 2, ExitCode: 1, Message: "connection closed by peer"}) })
			}
		}
		return
	}
}

// whole says whether all workers are there and reach each other.
func (w *world) whole() bool {
	for _, member := range w.record.Members {
		if j := w.jobs[member.ID]; j == nil || j.dead || j.failed || j.echoed {
			return false
		}
	}
	if len(w.s.net.cut)+len(w.s.net.paths) == 0 {
		return true
	}
	for i, a := range w.record.Members {
		for _, b := range w.record.Members[:i] {
			if !w.s.net.path(w.jobs[a.ID].p.host.i, w.jobs[b.ID].p.host.i) {
				return false
			}
		}
	}
	return true
}

// begin looks where to start: the workers of all older generations are down.
func (w *world) begin() {
	s := w.s
	if w.over || w.begun || s.broken != "" {
		return
	}
	if !w.whole() {
		w.tend()
		s.after(500*time.Millisecond, w.begin)
		return
	}
	w.begun, w.step = true, s.fs.newest()
	s.fs.begun[w.record.Number] = w.step
	s.note("generation %d begins at step %d", w.record.Number, w.step)
	s.after(s.between(100*time.Millisecond, 300*time.Millisecond), w.train)
}

// train does a step, if all are there.
func (w *world) train() {
	s := w.s
	if w.over || s.broken != "" {
		return
	}
	if !w.whole() {
		w.stuck()
		s.after(500*time.Millisecond, w.train)
		return
	}
	if w.saving {
		s.after(100*time.Millisecond, w.train)
		return
	}
	if w.step < s.total {
		w.step++
	}
	if w.stop || w.step%5 == 0 || w.step == s.total {
		w.save()
	}
	s.after(s.between(50*time.Millisecond, 200*time.Millisecond), w.train)
}

// stuck lets agents notice paths that do not work.
func (w *world) stuck() {
	for _, a := range w.record.Members {
		for _, b := range w.record.Members {
			ja, jb := w.jobs[a.ID], w.jobs[b.ID]
			if ja != nil && jb != nil && !ja.dead && !jb.dead && !w.s.net.path(ja.p.host.i, jb.p.host.i) && w.s.chance(0.1) {
				w.s.after(w.s.between(0, 5*time.Second), func() { ja.p.give(PathLost{Number: w.record.Number, ID: b.ID}) }) // it may be tried for longer than the generation lasts
			}
		}
	}
	w.tend()
}

// save looks for a higher claim, and some time later the checkpoint is in place: even if its writer was stopped in between, and for
// long.
func (w *world) save() {
	s, first := w.s, w.jobs[w.record.Members[0].ID]
	if s.fs.highest() > w.record.Number {
		first.fail(Failure{Echo: 2, ExitCode: 1, Message: "a later generation was claimed"})
		return
	}
	w.saving = true
	step := w.step
	gap := s.between(0, 300*time.Millisecond)
	late := s.now < s.calm && s.chance(0.05)
	if late {
		gap = s.between(0, 30*time.Second)
	}
	s.after(gap, func() {
		if first.dead && !late || first.dead && s.chance(0.5) {
			return
		}
		s.fs.checkpoints = append(s.fs.checkpoints, checkpoint{w.record.Number, step})
		s.note("checkpoint %d of generation %d is in place, counts: %v", step, w.record.Number, s.fs.counts(checkpoint{w.record.Number, step}))
		s.progress()
		w.saving = false
		if first.dead {
			return
		}
		for _, member := range w.record.Members {
			if j := w.jobs[member.ID]; !j.dead {
				j.p.give(WorkersProgress{Number: w.record.Number, Checkpoint: step})
			}
		}
		if step == s.total {
			w.finish(Finished)
		} else if w.stop {
			w.finish(Stopped)
		}
	})
}

// finish ends all workers in order.
func (w *world) finish(how End) {
	w.over = true
	for _, member := range w.record.Members {
		j := w.jobs[member.ID]
		w.s.after(w.s.between(time.Millisecond, 500*time.Millisecond), func() { j.end(how) })
	}
}

// progress checks that what counts never goes back, and is never what a generation has left behind that a later one began without.
func (s *sim) progress() {
	for _, c := range s.fs.checkpoints {
		for n, start := range s.fs.begun {
			if s.fs.counts(c) && n > c.generation && c.step > start {
				s.violate("checkpoint %d of generation %d counts, but generation %d has begun at %d", c.step, c.generation, n, start)
			}
		}
	}
	newest := s.fs.newest()
	if newest < s.counted {
		s.violate("the newest checkpoint that counts was at step %d, and is now at %d", s.counted, newest)
	}
	s.counted = newest
}

// claimed checks a new record.
func (s *sim) claimed(p *process, r Record) {
	if len(r.Members) > s.c.MaxNodes || len(r.Members) == 0 {
		s.violate("generation %d has %d members", r.Number, len(r.Members))
	}
	next, ranks := 0, map[int]bool{}
	for i, member := range r.Members {
		if member.GroupRank != i || member.FirstRank != next || member.Rank >= 0 && ranks[member.Rank] {
			s.violate("generation %d gives ranks wrongly: %+v", r.Number, r.Members)
		}
		ranks[member.Rank] = true
		next += member.NProc
	}
	if next != r.World || r.Index(r.Coordinator) < 0 || r.Coordinator != p.node.ID {
		s.violate("generation %d is inconsistent: %+v", r.Number, r)
	}
	if len(s.fs.records) < 2 {
		return
	}
	last := s.fs.records[len(s.fs.records)-2]
	if o := s.fs.outcome; covers(o, last.Number) && final(o.Code) {
		return
	}
	if r.Restarts < last.Restarts || r.Barren < last.Barren && r.Start <= last.Start && s.saved(last.Number) <= last.Start {
		s.violate("generation %d forgets: restarts %d after %d, barren %d after %d", r.Number, r.Restarts, last.Restarts, r.Barren, last.Barren)
	}
	for _, member := range r.Members {
		w := s.worlds[last.Number]
		if w != nil && w.jobs[member.ID] != nil && w.jobs[member.ID].failed && r.Restarts == last.Restarts {
			s.violate("generation %d forgets the failure of %s in generation %d", r.Number, member.ID, last.Number)
		}
	}
	if s.worlds[last.Number] == nil && (r.Restarts > last.Restarts || r.Barren > last.Barren) {
		s.violate("generation %d counts a failure of generation %d, which has not run", r.Number, last.Number)
	}
	if r.Restarts > last.Restarts+1 || r.Barren > last.Barren+1 {
		s.violate("generation %d counts too much: %s", r.Number, fmt.Sprint(r.Restarts, last.Restarts, r.Barren, last.Barren))
	}
}
