// Package pipe is the line between an agent (launch) and one worker process (a rank).
//
// The line is a socketpair that the worker inherits as a descriptor, whose number stands in the environment variable
// DDPRUN_PIPE_FD. Both sides write JSON objects, one a line, of at most MaxMessageBytes. Over it the worker is told its
// configuration and place (Start), reports where it is (Progress), its own account of a failure (ErrorReport) and its end
// (Done), asks the key-value store that lives in the agent, and is asked to stop (Stop). The end of the stream is the sign
// that the other side is gone.
//
// Agent is the agent's end for one worker and Worker the worker's end; neither side imports the other, both import this
// package. MemStore is the store behind the agents' ends. FromEnvironment is what a worker calls first: it takes up the
// line, checks that the agent is still its parent, and makes the process deaf to the signals with which schedulers and
// terminals address whole jobs.
//
// A field that one side does not know is ignored, so fields may be added; a change that the other side must know of
// raises Version.
package pipe
