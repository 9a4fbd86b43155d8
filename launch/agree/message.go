package agree

import "time"

// Kinds of messages. Another kind, as a later version may send, is not looked at.
const (
	kindReport = "report/1"
	kindWord   = "word/1"
)

// Message is what machines say to each other. It travels as JSON, may be lost, doubled, late or out of order, and is
// from an agent that the mesh has authenticated.
//
// There are two: an agent reports how it is to the agent that it follows, and that one answers with a word. Each says all there
// is to say anew, so one that is lost is made good by the next, and an older one that comes after a newer one is dropped.
type Message struct {
	Kind   string        `json:"kind"`
	Seq    uint64        `json:"seq"`  // grows with every message of an agent
	Sent   time.Duration `json:"sent"` // on the sender's clock
	Report *Report       `json:"report,omitempty"`
	Word   *Word         `json:"word,omitempty"`
}

// Report is how an agent is.
type Report struct {
	Head    string `json:"head"`              // whom it follows; itself where it leads
	HeadOK  bool   `json:"head_ok,omitempty"` // it leads, or that one has told it lately that it leads
	Highest int    `json:"highest"`           // number of the highest record it has read, -1: none; it starts no workers of a lower one any more
	Reach   int    `json:"reach"`             // how many agents it is connected with, itself included

	Busy       int      `json:"busy"` // the generation of its workers, -1: it has none
	Ran        int      `json:"ran"`  // the last generation whose workers it has started, -1: none
	End        End      `json:"end,omitempty"`
	Checkpoint int64    `json:"checkpoint,omitempty"`
	Failure    *Failure `json:"failure,omitempty"` // of generation Ran
	LostPaths  []string `json:"lost_paths,omitempty"`

	Tried       int      `json:"tried"` // the generation whose paths it has tried, -1: none; as a member this confirms the record
	Unreachable []string `json:"unreachable,omitempty"`

	Told int `json:"told"` // the last generation whose failure it was told of, -1: none

	Leaving   bool   `json:"leaving,omitempty"`
	LeaveCode int    `json:"leave_code,omitempty"`
	Reason    string `json:"reason,omitempty"` // of leaving
	Gone      bool   `json:"gone,omitempty"`   // its last report: it has no workers and never will
}

// Word is what an agent tells one that reports to it, or that it would like to hear from.
type Word struct {
	Head    string            `json:"head"`             // whom it follows; itself where it leads
	Able    bool              `json:"able,omitempty"`   // to lead
	Unable  time.Duration     `json:"unable,omitempty"` // for how long it is not, if it knows
	Highest int               `json:"highest"`
	Number  int               `json:"generation"` // that it coordinates, -1: none
	Phase   wordPhase         `json:"phase"`
	Echo    time.Duration     `json:"echo,omitempty"` // Sent of the last report that it has got
	Left    time.Duration     `json:"left,omitempty"` // how long after Echo workers of the generation may run
	How     StopHow           `json:"how,omitempty"`  // in phaseStop
	Reason  string            `json:"reason,omitempty"`
	Dismiss bool              `json:"dismiss,omitempty"` // who wants to leave may go now
	Probe   bool              `json:"probe,omitempty"`   // who waits to join should try the paths to the members
	Failed  *FailedGeneration `json:"failed,omitempty"`  // the last generation that has failed
	End     *Outcome          `json:"end,omitempty"`     // the run has ended
}

// FailedGeneration is the failure that has ended a generation.
type FailedGeneration struct {
	Number  int     `json:"generation"`
	Failure Failure `json:"failure"`
}

// wordPhase is what the members of a generation are to do.
type wordPhase string

const (
	phaseGather  wordPhase = "gather"  // wait
	phaseConfirm wordPhase = "confirm" // read the record, try the paths, confirm
	phaseRun     wordPhase = "run"     // start the workers
	phaseStop    wordPhase = "stop"    // end them
)
