// Package slurm tests ddprun on a real Slurm: cluster.sh starts one of three nodes on this machine. The scripts are those that
// ddprun slurm writes; some run a stand-in for ddprun, which ends as a test says, the others train.
//
// They need root and Debian's packages slurmctld, slurmd, slurm-client and munge, and skip where these are missing.
package slurm
