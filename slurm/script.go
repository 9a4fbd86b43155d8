package slurm

import (
	_ "embed"
	"fmt"
	"strings"
	"text/template"
	"time"
)

//go:embed script.sh.tmpl
var scriptText string

var script = template.Must(template.New("script").Funcs(template.FuncMap{
	"word": word, "words": words, "directive": directive, "seconds": func(d time.Duration) int { return int((d + time.Second - 1) / time.Second) },
}).Parse(scriptText))

// Script returns the sbatch script of the job.
func (j Job) Script() (string, error) {
	if err := j.check(); err != nil {
		return "", err
	}
	var b strings.Builder
	if err := script.Execute(&b, j); err != nil {
		return "", fmt.Errorf("slurm: script: %w", err)
	}
	return b.String(), nil
}

// Elastic tells whether the run goes on with fewer nodes.
func (j Job) Elastic() bool { return j.MinNodes < j.MaxNodes }

// Options are sbatch's, one a line.
func (j Job) Options() []string {
	nodes := fmt.Sprint(j.MaxNodes)
	if j.Elastic() {
		nodes = fmt.Sprintf("%d-%d", j.MinNodes, j.MaxNodes)
	}
	options := []string{"--job-name=" + j.Name, "--nodes=" + nodes}
	add := func(name, value string) {
		if value != "" && value != "0" {
			options = append(options, name+"="+value)
		}
	}
	add("--partition", j.Partition)
	add("--account", j.Account)
	add("--qos", j.QOS)
	add("--gpus-per-node", fmt.Sprint(j.GPUsPerNode))
	if j.CPUsPerNode == 0 {
		options = append(options, "--exclusive")
	}
	add("--cpus-per-task", fmt.Sprint(j.CPUsPerNode))
	add("--mem", j.Memory)
	add("--time", j.Time)
	options = append(options, fmt.Sprintf("--signal=USR1@%d", int(j.SaveBefore/time.Second)), "--requeue")
	if j.Elastic() {
		options = append(options, "--no-kill")
	}
	options = append(options, "--output="+j.Log, "--open-mode=append")
	return append(options, j.Sbatch...)
}

// Step are srun's options but the number of nodes, which the script looks up.
func (j Job) Step() []string {
	step := []string{"--ntasks-per-node=1", "--kill-on-bad-exit=0", "--wait=0", "--cpu-bind=none", "--label"}
	if j.Elastic() {
		step = append(step, "--no-kill")
	}
	if j.CPUsPerNode > 0 {
		step = append(step, fmt.Sprintf("--cpus-per-task=%d", j.CPUsPerNode)) // sbatch's is not srun's since Slurm 22.05
	}
	return append(step, j.Srun...)
}

// Agent is what runs on each node, but the key and the configuration.
func (j Job) Agent() []string {
	nnodes := fmt.Sprint(j.MaxNodes)
	if j.Elastic() {
		nnodes = fmt.Sprintf("%d:%d", j.MinNodes, j.MaxNodes)
	}
	agent := append(append([]string{}, j.Program...), "--nnodes="+nnodes, fmt.Sprintf("--nproc=%d", j.NProc), "--rejoin-timeout="+j.RejoinTimeout.String())
	for _, set := range j.Sets {
		agent = append(agent, "--set", set)
	}
	return append(agent, j.AgentArgs...)
}
