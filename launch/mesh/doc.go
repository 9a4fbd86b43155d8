// Package mesh joins the agents of a job: it finds them, tells which can be heard, and carries what they say to each other. It knows
// nothing of generations, workers or checkpoints.
//
// Who is there. memberlist spreads addresses by gossip, and its belief that somebody is dead is a hint; nothing else is taken from it. Each
// agent dials every address that it is told of (Config.Join, gossip, who has dialled it) and goes on doing so, so that agents find each
// other again after a network was cut in two. A peer is up when both have dialled each other and each has admitted the other's hello; it is
// down when one of the two connections is gone and does not come back within a second, or when it has said farewell. Down on one side is
// down on the other: who has given a peer up says so with its next hello, and the peer begins anew.
//
// Trust. A connection is TLS 1.3 in which both ends prove that they have the Ed25519 key which HKDF makes of the job's key; any other is
// refused before a byte of it is read. So an outsider can neither speak nor replay. Gossip's streams go over such connections too, and its
// packets are encrypted with another derived key; those can be replayed, which changes hints alone. Without a key connections are
// encrypted, but anyone can take part.
//
// Bounds. Connections that have not proven themselves are at most maxPending and live for greetTimeout at most; when there are too many the
// oldest go first. Lines have a greatest length, queues a greatest number and size, and who does not read Events holds its peers back. What
// can be provoked from outside is logged at a bounded rate.
//
// One port number is all that is needed: TCP for everything above, UDP for gossip.
//
// Before it: package launch starts it, once it knows where the agent stands. After it: launch/agree is told who is up and what was said.
package mesh
