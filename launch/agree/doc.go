// Package agree holds the rules by which the agents of a run agree on who runs what: a state machine that is given the time, messages,
// the results of file operations and what becomes of the workers, and says what to do. It has no clock, no network, no files, no
// goroutines and no randomness, so a simulation can put it through anything (docs/design/2026-11-26-launch.md has the rules and the reasons).
//
// Before it: package launch turns signals, messages of launch/mesh, records of internal/generation and the ends of workers into inputs.
// After it: package launch carries out the outputs.
package agree
