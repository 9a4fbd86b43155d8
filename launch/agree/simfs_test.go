package agree

import (
	"errors"
	"slices"
	"time"
)

// files is output_dir: operations take effect at one moment between their start and their answer.
type files struct {
	s           *sim
	records     []Record // by claims, in order
	outcome     *Outcome
	checkpoints []checkpoint
	begun       map[int]int64 // starting steps
	slow        map[int]bool  // hosts
	failing     map[int]bool
	hung        map[int]bool
}

type checkpoint struct {
	generation int
	step       int64
}

var errIO = errors.New("input/output error")

// wait is how long an operation takes before it takes effect, and after.
func (f *files) wait(p *process) time.Duration {
	s := f.s
	if f.slow[p.host.i] {
		return s.between(0, 1500*time.Millisecond)
	}
	return s.between(50*time.Microsecond, 5*time.Millisecond)
}

// op does something and answers. do's answer for a failure says whether it is done nevertheless.
func (f *files) op(p *process, do func(fails bool)) {
	s := f.s
	s.after(f.wait(p), func() {
		if f.hung[p.host.i] {
			f.op(p, do) // again, later
			s.now += 0
			return
		}
		do(f.failing[p.host.i] && s.chance(0.7))
	})
}

func (f *files) answer(p *process, in Input) {
	f.s.after(f.wait(p), func() { p.give(in) })
}

func (f *files) read(p *process, claimsOnly bool) {
	asked := p.clock()
	f.op(p, func(fails bool) {
		if fails {
			f.answer(p, Records{Asked: asked, Err: errIO})
			return
		}
		in := Records{Asked: asked, Outcome: f.outcome}
		if !claimsOnly {
			in.Next, in.Newest = f.highest()+1, f.newest()
		}
		if len(f.records) > 0 {
			in.Highest = &f.records[len(f.records)-1]
		}
		f.answer(p, in)
	})
}

func (f *files) highest() int {
	if len(f.records) == 0 {
		return -1
	}
	return f.records[len(f.records)-1].Number
}

// newest is the newest checkpoint that counts.
func (f *files) newest() int64 {
	var newest int64
	for _, c := range f.checkpoints {
		if f.counts(c) {
			newest = max(newest, c.step)
		}
	}
	return newest
}

func (f *files) counts(c checkpoint) bool {
	if f.s.naive {
		return true
	}
	for n, start := range f.begun {
		if n > c.generation && start < c.step {
			return false
		}
	}
	return true
}

func (f *files) claim(p *process, r Record) {
	f.op(p, func(fails bool) {
		done := !fails || f.s.chance(0.5)
		won := false
		if done && r.Number > f.highest() {
			won = true
			f.records = append(slices.Clip(f.records), r)
			f.s.claims++
			f.s.note("%s claims generation %d: %v, start %d, restarts %d, barren %d", p.node.ID, r.Number, ids(r.Members), r.Start, r.Restarts, r.Barren)
			f.s.claimed(p, r)
			if f.s.onClaim != nil {
				f.s.onClaim(r)
			}
		}
		if fails {
			f.answer(p, Claimed{Number: r.Number, Err: errIO})
			return
		}
		f.answer(p, Claimed{Number: r.Number, Won: won})
	})
}

func (f *files) write(p *process, o Outcome) {
	f.op(p, func(fails bool) {
		if fails && f.s.chance(0.5) {
			f.answer(p, OutcomeWritten{errIO})
			return
		}
		if f.outcome != nil && f.outcome.Generation > o.Generation {
			f.answer(p, OutcomeWritten{errors.New("there is an outcome of a later generation")})
			return
		}
		f.outcome = &o
		f.s.note("%s writes outcome %d of generation %d", p.node.ID, o.Code, o.Generation)
		if fails {
			f.answer(p, OutcomeWritten{errIO})
			return
		}
		f.answer(p, OutcomeWritten{})
	})
}
