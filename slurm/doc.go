// Package slurm writes the sbatch script with which one ddprun run starts on several nodes, survives what happens to them, and goes
// on after its time limit: Job says what, Script writes it.
//
// The script is plain bash that people can read and change. It needs nothing on the nodes but Slurm and ddprun, and holds no rule
// of the run itself: srun starts one agent a node, these find each other by SLURM_* (package launch/where), and what has become of
// the run the script reads from output_dir/.ddprun/outcome.json. What it decides is when to start them again in place, when to queue the
// job again, and when to stop, by the exit codes of package launch.
//
// Before it: cmd/ddprun has read the configuration. After it: sbatch.
package slurm
