package mesh

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Bounds of the lines that others can provoke.
const (
	quietInterval = 30 * time.Second // between two lines about the same thing
	quietThings   = 256              // things remembered
	quietBurst    = 20               // lines in a quietInterval, whatever they are about
)

// quiet lets through some of the lines that others can provoke.
type quiet struct {
	mu     sync.Mutex
	things map[string]*quietThing
	window time.Time // when the current interval began
	lines  int       // let through in it
	lost   int       // kept back about things that are not remembered
}

type quietThing struct {
	last time.Time
	kept int // lines kept back since
}

// allow says whether a line about thing may be written, and how many were kept back before it.
func (q *quiet) allow(thing string, now time.Time) (kept int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Sub(q.window) >= quietInterval {
		q.window, q.lines = now, 0
		for name, t := range q.things {
			if now.Sub(t.last) >= quietInterval {
				q.lost += t.kept
				delete(q.things, name)
			}
		}
	}
	t := q.things[thing]
	if t == nil {
		if len(q.things) >= quietThings {
			q.lost++
			return 0, false
		}
		if q.things == nil {
			q.things = map[string]*quietThing{}
		}
		t = &quietThing{}
		q.things[thing] = t
	}
	if (!t.last.IsZero() && now.Sub(t.last) < quietInterval) || q.lines >= quietBurst {
		t.kept++
		return 0, false
	}
	kept = t.kept + q.lost
	t.last, t.kept, q.lost = now, 0, 0
	q.lines++
	return kept, true
}

// warn returns a line to write about thing, or nil, which zerolog takes for one that is not written.
func (m *Mesh) warn(thing string) *zerolog.Event { return m.bounded(zerolog.WarnLevel, thing) }

func (m *Mesh) bounded(level zerolog.Level, thing string) *zerolog.Event {
	if level < m.log.GetLevel() {
		return nil
	}
	q := &m.quiet
	if level < zerolog.InfoLevel {
		q = &m.details
	}
	kept, ok := q.allow(thing, time.Now())
	if !ok {
		return nil
	}
	e := m.log.WithLevel(level)
	if kept > 0 {
		e = e.Int("kept_back", kept)
	}
	return e
}
