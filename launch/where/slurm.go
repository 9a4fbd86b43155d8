package where

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Ports of agents in Slurm: below those that Linux gives to outgoing connections, and even, so that no two runs' ports are neighbours.
const (
	slurmPorts     = 7000
	slurmFirstPort = 16000
)

// slurmLayer is what Slurm says: nothing outside of it; in a step, which srun starts, all; in a job's script the run's name alone.
// told is whether somebody else says how many nodes there are.
//
// A step's own variables are read, never its job's: a step may have fewer nodes, and in a heterogeneous job (srun --het-group=0,1) the
// step joins components that are jobs of their own. Elements of a job array are jobs like any other.
func slurmLayer(vars variables, told bool) (layer, error) {
	id := vars["SLURM_JOB_ID"]
	if id == "" {
		return layer{}, nil
	}
	job, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return layer{}, fmt.Errorf("SLURM_JOB_ID: %q is no number", id)
	}
	step, inStep := slurmStep(vars["SLURM_STEP_ID"])
	if !inStep {
		return slurmScript(vars, id, told)
	}
	tasks, err := mostTasks(vars["SLURM_STEP_TASKS_PER_NODE"])
	if err != nil {
		return layer{}, fmt.Errorf("SLURM_STEP_TASKS_PER_NODE: %w", err)
	}
	if tasks > 1 {
		return layer{}, fmt.Errorf("this Slurm step has %d tasks on a node, but one agent a node starts all its ranks: srun --ntasks-per-node=1 ddprun --nproc %d train.yaml",
			tasks, tasks)
	}
	hosts, err := Hostlist(vars["SLURM_STEP_NODELIST"])
	if err != nil {
		return layer{}, fmt.Errorf("SLURM_STEP_NODELIST: %w", err)
	}
	if sorted := slices.Sorted(slices.Values(hosts)); len(slices.Compact(sorted)) < len(hosts) {
		return layer{}, fmt.Errorf("this Slurm step names a node twice (%s); two components of a heterogeneous job must not share a node: one agent a node starts all its ranks",
			vars["SLURM_STEP_NODELIST"])
	}
	if n := vars["SLURM_STEP_NUM_NODES"]; n != strconv.Itoa(len(hosts)) {
		return layer{}, fmt.Errorf("SLURM_STEP_NUM_NODES is %q, but SLURM_STEP_NODELIST (%s) has %d: variables of two steps are mixed",
			n, vars["SLURM_STEP_NODELIST"], len(hosts))
	}
	return layer{source: FromSlurm, nnodes: vars.said("SLURM_STEP_NUM_NODES"), nodeRank: vars.said("SLURM_NODEID"), join: hosts, joinBy: "SLURM_STEP_NODELIST",
		port: said{strconv.Itoa(slurmPort(job, step)), "SLURM_JOB_ID"}, runID: said{"slurm-" + id, "SLURM_JOB_ID"}}, nil
}

// slurmScript is the layer of a job's script or an interactive shell: there is no task a node there.
func slurmScript(vars variables, id string, told bool) (layer, error) {
	nodes, _ := strconv.Atoi(vars["SLURM_JOB_NUM_NODES"])
	switch {
	case told: // agents are started by other means, which need not pass Slurm's variables on: nothing of them may count
		return layer{}, nil
	case nodes > 1:
		return layer{}, fmt.Errorf("this Slurm job has %d nodes, but ddprun runs in its script, on one of them: start it by srun, one task a node "+
			"(srun --ntasks-per-node=1 ddprun ...; ddprun slurm writes such a script), or give --nnodes 1 to train on this node alone", nodes)
	}
	return layer{source: FromSlurm, runID: said{"slurm-" + id, "SLURM_JOB_ID"}}, nil
}

// slurmStep reads a step's number. Slurm's largest ones are no steps of srun's but the script (0xfffffffb), the interactive shell
// of salloc and others.
func slurmStep(text string) (number uint64, ok bool) {
	number, err := strconv.ParseUint(text, 10, 64)
	return number, err == nil && number < 0xfffffff0
}

// slurmPort is where the agents of a step listen. Jobs with neighbouring numbers, which share nodes more often than others, and the
// steps of one job have different ports; jobs a multiple of 7,000 apart do not (--port).
func slurmPort(job, step uint64) int {
	return slurmFirstPort + 2*int((job%slurmPorts+977*(step%slurmPorts))%slurmPorts)
}

// mostTasks reads tasks a node as Slurm lists them, "2(x3),1", and returns the largest number.
func mostTasks(text string) (int, error) {
	if text == "" {
		return 0, errors.New("is not set")
	}
	most := 0
	for part := range strings.SplitSeq(text, ",") {
		number, _, _ := strings.Cut(part, "(")
		tasks, err := strconv.Atoi(number)
		if err != nil || tasks < 1 {
			return 0, fmt.Errorf("want numbers of tasks as in 2(x3),1, got %q", text)
		}
		most = max(most, tasks)
	}
	return most, nil
}
