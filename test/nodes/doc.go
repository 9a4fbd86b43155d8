// Package nodes holds tests of a run over several nodes: the real programs on hosts of one machine that faults befall.
//
// A host is a process that is PID 1 of namespaces of its own (network, UTS, mounts, PIDs, IPC), with a host name and /etc/hosts of its own.
// Hosts hang on a bridge in a network namespace of the test's, each by a pair of veth; nothing touches the machine's own
// network, and the namespaces have no names: they end with the test's process, however that ends. Directories are shared, as by NFS.
//
// cluster_test.go has the bridge and the hosts, host_test.go a host's processes, cable_test.go what can happen to its cable, slow_test.go a cable
// that is slow and loses packets (in user space, since many kernels are built without netem), clock_test.go clocks that do not agree, hold_test.go a
// process that stands still before it renames, or whose renaming fails; harness_test.go shows that all of these do what they say. run_test.go starts a run of a tiny model and reads what
// it leaves; faults_test.go has every fault in every phase, scenarios_test.go the rest, times_test.go the table of how long it took to notice a fault and to go on,
// and witness_test.go tells failures once more at the end.
//
// It wants root (CAP_SYS_ADMIN and CAP_NET_ADMIN in the machine's user namespace) and a kernel with veth and bridge; no program of iproute2.
// Elsewhere the tests skip with the reason. Wall clocks cannot be set apart on one machine, since time namespaces have none.
//
// A few cases run always, all of them with DDPRUN_TEST_ALL=1. More variables:
//
//	DDPRUN_NODES_SEED       of everything that is drawn; each run prints its own
//	DDPRUN_NODES_REPEAT     times that each fault comes in each of the four phases; make test-all has 13, so each fault comes 52 times
//	DDPRUN_NODES_SATURATE   seconds of TestNoFalseDeath
//	DDPRUN_NODES_LOGS       1: show what the agents say of faults also where all is well
//	DDPRUN_NODES_PROGRAMS   a directory with ddprun and ddprun-worker, in place of building them
package nodes
