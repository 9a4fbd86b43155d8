// Package launch is the agent of a node: it starts one worker process a rank, watches them, and says with an exit code how
// the run ended. Run is all of it; the way there lies in Config, the result in Outcome and the Exit constants.
//
// A run is a series of generations. One starts all workers, on all nodes; when one fails, the others are stopped within two
// seconds and the next generation (which resumes from the newest checkpoint by itself) starts, as far as
// the budget of restarts goes. Who takes part and what follows is decided by the rules of package launch/agree, for one node as for many: drive
// (driver.go) tells them what happens and does what they say. Records of generations lie in OutputDir (archive.go, internal/generation), other nodes' agents are
// reached over launch/mesh (peers.go), and ranks meet in a store that lies in the coordinator's agent (stores.go).
//
// Workers are steered over a pipe (package launch/pipe) and over nothing else: they are deaf
// to the signals with which schedulers and terminals address whole jobs. A node alone opens no network port but MetricsAddr.
//
// A worker that does not run, or does nothing, is a failure too (watch.go): it sends beats from a goroutine of its own, and counts its work. Its
// stacks, and the others', are filed before it is killed.
//
// What a run is doing can be asked: Status, over a Unix socket (AskStatus), and as Prometheus' metrics.
//
// No process outlives the agent, however it ends:
//   - a worker dies with the thread that started it (Pdeathsig), also one that is stopped; that thread lives as long as Run;
//   - a worker notices the end of its pipe, and at its start that its parent is another one;
//   - a worker's children lie in its process group and carry a mark in their environment. The agent kills both when the
//     worker ends. A guard, a process of a few MB that does nothing but wait for the agent's end, kills what carries the
//     mark when the agent was killed. Only a process that leaves the group and clears its environment as well escapes.
//
// The guard is one of two roles of a helper program (Helper), usually the agent's own program under a hidden command.
//
// The agent makes itself a subreaper, so that orphans of workers become its children and are reaped, as they are where it
// is PID 1 of a container. Run takes over signals and the reaping of orphans for the whole process; therefore one Run is
// active at a time, and nothing else in the process may start children in process groups of their own meanwhile.
//
// Before it: internal/config has read and checked the configuration. After it: cmd/ddprun exits with Outcome.Code.
package launch
