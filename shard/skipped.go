package shard

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// OnError says what becomes of a bad record.
type OnError string

const (
	OnErrorStop OnError = "stop" // it ends the work, with its place
	OnErrorSkip OnError = "skip" // it is passed over and counted; with it the rest of its source, where that cannot be read
)

// maxExamples is how many bad records are kept with their places.
const maxExamples = 20

// Skipped are the records that were passed over, by reason, and the first of them.
type Skipped struct {
	Counts   map[Reason]int64 `json:"counts,omitempty"`
	Examples []Example        `json:"examples,omitempty"`
}

// Example is a record that was passed over.
type Example struct {
	Path   string `json:"path"`
	Offset int64  `json:"offset"` // as BadRecord has it
	Line   int64  `json:"line"`
	Reason Reason `json:"reason"`
	Text   string `json:"text"` // the whole error
}

func (e Example) String() string { return strings.TrimPrefix(e.Text, "shard: ") }

// Total is how many were passed over.
func (s *Skipped) Total() int64 {
	var n int64
	for _, count := range s.Counts {
		n += count
	}
	return n
}

// Reasons is the counts for people, in the order of the reasons' names.
func (s *Skipped) Reasons() string {
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(s.Counts)) {
		parts = append(parts, fmt.Sprintf("%s: %d", reason, s.Counts[reason]))
	}
	return strings.Join(parts, ", ")
}

func (s *Skipped) add(bad *BadRecord) {
	s.merge(Skipped{Counts: map[Reason]int64{bad.Reason: 1},
		Examples: []Example{{Path: bad.Path, Offset: bad.Offset, Line: bad.Line, Reason: bad.Reason, Text: bad.Error()}}})
}

func (s *Skipped) merge(other Skipped) {
	for reason, n := range other.Counts {
		if s.Counts == nil {
			s.Counts = map[Reason]int64{}
		}
		s.Counts[reason] += n
	}
	s.Examples = append(s.Examples, other.Examples[:min(len(other.Examples), maxExamples-len(s.Examples))]...)
}
