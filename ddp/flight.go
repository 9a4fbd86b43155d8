package ddp

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ddprun/ddprun/nccl"
)

// flight is a record of a rank's last collectives, as PyTorch's flight recorder keeps it: what a watchdog compares with the other
// ranks' to say who is late. It is safe for concurrent use.
type flight struct {
	mu      sync.Mutex
	entries []flightEntry // the newest last; at most flightEntries
	seq     int64         // of the newest, from 1
	done    int64         // the newest that has ended; those before it have too
	marks   []flightMark
}

// flightEntries is how many collectives are remembered: some steps of a large model.
const flightEntries = 512

// flightEntry is one collective. Times are of this node's clock, in microseconds since 1970; 0: not yet.
type flightEntry struct {
	Seq    int64  `json:"seq"`
	Op     string `json:"op"`
	Count  int64  `json:"count"`
	Type   string `json:"type"`
	Root   int    `json:"root"`
	Bucket int    `json:"bucket"` // of the gradients; noBucket: another tensor
	Issued int64  `json:"issued_us"`
	Done   int64  `json:"done_us"`
}

// flightMark is a moment between collectives.
type flightMark struct {
	What string `json:"what"`
	At   int64  `json:"at_us"`
	Seq  int64  `json:"seq"` // collectives issued before it
}

// noBucket is the bucket of what is no bucket of gradients.
const noBucket = -1

func (e flightEntry) String() string {
	what := fmt.Sprintf("%s of %d %s", e.Op, e.Count, e.Type)
	if e.Op == "broadcast" {
		what += fmt.Sprintf(" from rank %d", e.Root)
	}
	if e.Bucket != noBucket {
		what += fmt.Sprintf(" (bucket %d)", e.Bucket)
	}
	return fmt.Sprintf("collective %d, %s", e.Seq, what)
}

// same tells whether two ranks' entries may be parts of one collective.
func (e flightEntry) same(o flightEntry) bool {
	return e.Op == o.Op && e.Count == o.Count && e.Type == o.Type && e.Root == o.Root
}

func micros(t time.Time) int64 { return t.UnixMicro() }

// issue records that a collective starts and returns its number.
func (f *flight) issue(e flightEntry, now time.Time) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	e.Seq, e.Issued = f.seq, micros(now)
	if len(f.entries) == flightEntries {
		f.entries = slices.Delete(f.entries, 0, flightEntries/2)
	}
	f.entries = append(f.entries, e)
	return f.seq
}

// end records that collective seq, and so those before it, have ended.
func (f *flight) end(seq int64, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.entries) - 1; i >= 0 && f.entries[i].Seq > f.done; i-- {
		if f.entries[i].Seq <= seq {
			f.entries[i].Done = micros(now)
		}
	}
	f.done = max(f.done, seq)
}

// mark records a moment.
func (f *flight) mark(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.marks) == flightEntries {
		f.marks = slices.Delete(f.marks, 0, flightEntries/2)
	}
	f.marks = append(f.marks, flightMark{what, micros(time.Now()), f.seq})
}

// flightReport is what a rank tells the others of its record when something is wrong.
type flightReport struct {
	Rank    int           `json:"rank"`
	Issued  int64         `json:"issued"` // number of the last collective that it has started
	Done    int64         `json:"done"`   // and that has ended
	Error   string        `json:"error"`  // what it saw itself; empty: nothing
	Late    bool          `json:"late"`   // the error is that nothing moves
	Echo    bool          `json:"echo"`   // the error is that of a peer
	Entries []flightEntry `json:"entries"`
	Marks   []flightMark  `json:"marks"`
}

func (f *flight) report(rank int, err error, late bool) flightReport {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := flightReport{Rank: rank, Issued: f.seq, Done: f.done, Late: late, Echo: errors.Is(err, nccl.ErrRemote), Entries: slices.Clone(f.entries), Marks: slices.Clone(f.marks)}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// entry returns the report's entry of a number.
func (r flightReport) entry(seq int64) (flightEntry, bool) {
	for _, e := range r.Entries {
		if e.Seq == seq {
			return e, true
		}
	}
	return flightEntry{}, false
}

// blame says what the reports of size ranks show, of which some may be lacking: which rank is gone, has failed, does another collective
// than the rest, or is behind, and at which collective.
func blame(size int, reports map[int]flightReport) string {
	first, last := int64(-1), int64(0) // collectives that not all have ended, and that some have started
	for _, r := range reports {
		if first < 0 || r.Done < first {
			first = r.Done
		}
		last = max(last, r.Issued)
	}
	stuck := first + 1
	var silent, behind, inside, failed, echoes []string
	var what flightEntry
	for rank := range size {
		r, here := reports[rank]
		if !here {
			silent = append(silent, fmt.Sprint(rank))
			continue
		}
		if said := fmt.Sprintf("rank %d: %s", rank, r.Error); r.Echo {
			echoes = append(echoes, said)
		} else if r.Error != "" && !r.Late {
			failed = append(failed, said)
		}
		e, has := r.entry(stuck)
		switch {
		case !has && r.Issued < stuck:
			behind = append(behind, fmt.Sprint(rank))
		case has && what.Seq == 0:
			what = e
			fallthrough
		default:
			if has && r.Done < stuck {
				inside = append(inside, fmt.Sprint(rank))
			}
		}
		if has && !e.same(what) {
			return fmt.Sprintf("rank %d does %v, another rank %v: a bug, or ranks with different configurations", rank, e, what)
		}
	}
	if len(failed)+len(silent) == 0 {
		failed = echoes
	}
	at := "no collective is under way"
	if what.Seq > 0 {
		at = what.String()
	}
	switch {
	case len(silent) > 0:
		failed = append([]string{ranks(silent) + " not answering: dead, stopped or cut off"}, failed...)
		fallthrough
	case len(failed) > 0:
		return fmt.Sprintf("%s, at %s", strings.Join(failed, "; "), at)
	case len(behind) > 0:
		return fmt.Sprintf("%s not come to %s", have(behind), at)
	case len(inside) > 0 && len(inside) < size:
		return fmt.Sprintf("%s stuck in %s, which the others have ended", ranks(inside), at)
	}
	return fmt.Sprintf("%s stuck in %s, so it is the GPUs or the network between them", ranks(inside), at)
}

// ranks is "rank 1 is" or "ranks 1, 2 are".
func ranks(numbers []string) string {
	if len(numbers) == 1 {
		return "rank " + numbers[0] + " is"
	}
	return "ranks " + strings.Join(numbers, ", ") + " are"
}

// have is "rank 1 has" or "ranks 1, 2 have".
func have(numbers []string) string {
	if len(numbers) == 1 {
		return "rank " + numbers[0] + " has"
	}
	return "ranks " + strings.Join(numbers, ", ") + " have"
}
