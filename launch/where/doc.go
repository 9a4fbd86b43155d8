// Package where answers an agent's first question: where am I? Find says how many nodes take part, which of them this is, under
// which addresses the others can be found, and what the run is called. Resolver turns names of hosts into addresses, also those
// that Go's own resolver does not know.
//
// Each answer comes from the first that has it: the command line, DDPRUN_* variables, torchrun's PET_* variables (which Kubeflow
// sets), Slurm's step, Kubernetes' Indexed Job; else the agent is alone. What two of them say of the number of nodes may not
// contradict.
//
// It reads variables and starts nothing but, for names, getent and scontrol. Before it: cmd/ddprun has read its flags. After it:
// launch opens its ports and looks for the others.
package where
