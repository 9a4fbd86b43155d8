package agree

import "time"

// Config is what all agents of a run are told alike, and this agent's own node.
type Config struct {
	Self               Node
	RunID              string
	Digest             string // of the configuration
	MinNodes, MaxNodes int    // equal: exactly so many
	MaxRestarts        int
	LastCall           time.Duration // how long nobody new may come before a start with fewer than MaxNodes
	JoinTimeout        time.Duration // how long to wait for MinNodes at first
	RejoinTimeout      time.Duration // ... and later, after nodes were lost; then the run ends with 75
	LeaversReturn      bool          // nodes that leave come again by themselves: they are waited for as lost ones are
	Beat               time.Duration // between two beats, DefaultBeat
	Lease              time.Duration // DefaultLease
	ConfirmTimeout     time.Duration // for a plan to be confirmed by all
	SkipFinished       bool          // a run whose outcome is 0 is not started again: exit 0
	Exclusive          bool          // nobody else can be running in output_dir (one node that holds its lock): no leases, no fence
}

// Defaults.
const (
	DefaultBeat  = 500 * time.Millisecond
	DefaultLease = 4 * time.Second
)

// Input is something that has happened. Exactly the types below.
type Input interface{ input() }

// Inputs.
type (
	// Tick says that time has passed: due at Machine.Next, harmless at any time.
	Tick struct{}
	// Connected says that the mesh has a connection both ways with a peer that was found to belong to this run; again when its Node changes.
	Connected struct{ Node Node }
	// Disconnected says that a connection is lost, or that memberlist believes the peer dead, or that the peer has said farewell.
	Disconnected struct {
		ID       string
		Farewell bool // it has left in order
	}
	// Heard is a message of a peer: what its machine said in Send.
	Heard struct {
		From    string
		Message Message
	}
	// Records is the answer to ReadRecords.
	Records struct {
		Asked   time.Duration // when the ReadRecords that this answers was given out: the records were read no earlier
		Highest *Record       // nil: none
		Next    int           // the least number that nobody has used
		Newest  int64         // step of the newest checkpoint that counts; 0: none
		Outcome *Outcome      // nil: none
		Err     error         // the file system does not answer
	}
	// Claimed is the answer to Claim.
	Claimed struct {
		Number int
		Won    bool
		Err    error // not known whether it was won: read the records
	}
	// Paths is the answer to TestPaths.
	Paths struct {
		Number      int
		Unreachable []string // IDs of members
	}
	// PathLost says that the path to a member of the generation has not worked for a lease. One that comes when the generation's workers are down tells of nothing.
	PathLost struct {
		Number int
		ID     string
	}
	// WorkersProgress tells of a newer checkpoint.
	WorkersProgress struct {
		Number     int
		Checkpoint int64
	}
	// WorkersFailed says that a worker here has failed; the others here are being ended. WorkersDown follows.
	WorkersFailed struct {
		Number  int
		Failure Failure
	}
	// WorkersDown says that no worker of the generation is left here.
	WorkersDown struct {
		Number     int
		End        End
		Checkpoint int64 // the newest that they know of
	}
	// Leave is the wish to leave with a checkpoint, by a signal. Code is what to exit with when there is none (75 otherwise).
	Leave struct {
		Reason string
		Code   int
	}
	// Kill is the wish to end at once, with this exit code.
	Kill struct{ Code int }
	// OutcomeWritten is the answer to WriteOutcome. A file of a later generation is not replaced: an error.
	OutcomeWritten struct{ Err error }
)

// End is how the workers of a node ended.
type End int

// Ends of workers.
const (
	Finished End = iota // all with 0
	Stopped             // on request, with a checkpoint: 75
	Failed              // at least one failed
	Killed              // ended at the machine's word, without a checkpoint
)

// Output is something to do. Exactly the types below.
type Output interface{ output() }

// Outputs.
type (
	// Send sends a message to a peer; it may be lost.
	Send struct {
		To      string
		Message Message
	}
	// ReadRecords asks for Records. ClaimsOnly: its Next and Newest, for which every checkpoint has to be looked at, are not needed; a coordinator
	// looks each beat whether there is a higher claim.
	ReadRecords struct{ ClaimsOnly bool }
	// Claim asks for the record to be made, if its number is free and the highest: Claimed follows.
	Claim struct{ Record Record }
	// TestPaths asks for the data-plane paths to these nodes to be tried: Paths follows.
	TestPaths struct {
		Number int
		Nodes  []Node
	}
	// StartWorkers asks for this node's workers of a generation. WorkersDown will follow, whatever happens.
	StartWorkers struct{ Record Record }
	// StopWorkers asks for them to end. How: checkpoint (75), or now.
	StopWorkers struct {
		Number int
		How    StopHow
		Reason string
	}
	// Lease says until when (on the clock that inputs come with) the workers may run without another word. The first comes before
	// StartWorkers; none comes at all where the agent is Exclusive.
	Lease struct {
		Number int
		Until  time.Duration
	}
	// WriteOutcome asks for outcome.json to be written: OutcomeWritten follows.
	WriteOutcome struct{ Outcome Outcome }
	// FirstFailure tells, on every member, which failure has ended a generation, before the next one or Exit. Its Rank is -1 where a node was lost.
	FirstFailure struct {
		Number  int
		Failure Failure
	}
	// Exit ends this agent. It is the last output; what was to be sent before it should still be sent.
	Exit struct{ Outcome Outcome }
	// Log is for people.
	Log struct {
		Level string // debug, info, warn, error
		Text  string
		Attrs []any // key, value, ...
	}
)

// StopHow says how workers are to end.
type StopHow string

// Ways to end.
const (
	StopCheckpoint StopHow = "checkpoint"
	StopNow        StopHow = "now"
)
