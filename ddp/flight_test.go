package ddp

import (
	"strings"
	"testing"
	"time"
)

// flown is a record of n collectives of which done have ended.
func flown(n, done int64, change func(e *flightEntry)) *flight {
	f := &flight{}
	for seq := range n {
		e := flightEntry{Op: "all-reduce", Count: 100, Type: "float32", Bucket: int(seq % 3)}
		if change != nil && seq == n-1 {
			change(&e)
		}
		f.issue(e, time.UnixMicro(1000*seq))
	}
	f.end(done, time.UnixMicro(1_000_000))
	return f
}

func TestBlameNamesTheRankAndTheBucket(t *testing.T) {
	late := func(rank int, f *flight) flightReport { return f.report(rank, ErrLate, true) }
	for name, c := range map[string]struct {
		reports []flightReport
		said    string
	}{
		"behind":   {[]flightReport{late(0, flown(5, 4, nil)), late(1, flown(4, 4, nil)), late(2, flown(5, 4, nil))}, "rank 1 has not come to collective 5, all-reduce of 100 float32 (bucket 1)"},
		"two":      {[]flightReport{late(0, flown(5, 4, nil)), late(1, flown(4, 4, nil)), late(2, flown(3, 3, nil))}, "rank 2 has not come to collective 4, all-reduce of 100 float32 (bucket 0)"},
		"both":     {[]flightReport{late(0, flown(5, 4, nil)), late(1, flown(4, 4, nil)), late(2, flown(4, 4, nil))}, "ranks 1, 2 have not come to collective 5"},
		"silent":   {[]flightReport{late(0, flown(5, 4, nil)), late(2, flown(5, 4, nil))}, "rank 1 is not answering: dead, stopped or cut off, at collective 5"},
		"stuck":    {[]flightReport{late(0, flown(6, 5, nil)), late(1, flown(6, 4, nil)), late(2, flown(6, 5, nil))}, "rank 1 is stuck in collective 5, all-reduce of 100 float32 (bucket 1), which the others have ended"},
		"all":      {[]flightReport{late(0, flown(5, 4, nil)), late(1, flown(5, 4, nil)), late(2, flown(5, 4, nil))}, "ranks 0, 1, 2 are stuck in collective 5"},
		"count":    {[]flightReport{late(0, flown(5, 4, nil)), late(1, flown(5, 4, nil)), late(2, flown(5, 4, func(e *flightEntry) { e.Count = 99 }))}, "rank 2 does collective 5, all-reduce of 99 float32 (bucket 1), another rank collective 5, all-reduce of 100"},
		"failed":   {[]flightReport{late(0, flown(5, 4, nil)), flown(5, 4, nil).report(1, ErrAborted, false), late(2, flown(5, 4, nil))}, "rank 1: process group aborted, at collective 5"},
		"far back": {[]flightReport{late(0, flown(2000, 1999, nil)), late(1, flown(1999, 1999, nil)), late(2, flown(2000, 1999, nil))}, "rank 1 has not come to collective 2000"},
	} {
		reports := map[int]flightReport{}
		for _, r := range c.reports {
			reports[r.Rank] = r
		}
		if got := blame(3, reports); !strings.HasPrefix(got, c.said) {
			t.Errorf("%s: %s\nwant %s", name, got, c.said)
		}
	}
}

func TestFlightIsBounded(t *testing.T) {
	f := flown(10_000, 9_990, nil)
	for range 10_000 {
		f.mark("a moment")
	}
	r := f.report(0, nil, false)
	if len(r.Entries) > flightEntries || len(r.Marks) > flightEntries || r.Issued != 10_000 || r.Done != 9_990 {
		t.Errorf("%d entries, %d marks, %d issued, %d done", len(r.Entries), len(r.Marks), r.Issued, r.Done)
	}
	for _, e := range r.Entries {
		if (e.Done != 0) != (e.Seq <= 9_990) {
			t.Fatalf("%+v", e)
		}
	}
}
