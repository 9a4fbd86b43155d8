package slurm

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Job is a training run as a job of Slurm. Paths are absolute and mean the same on every node.
type Job struct {
	Name               string
	MinNodes, MaxNodes int // equal: Slurm gives that many or none, and a lost one ends the job, which queues again; else the run goes on with MIN
	NProc              int // ranks a node
	GPUsPerNode        int // 0: none are asked for
	CPUsPerNode        int // 0: whole nodes
	Memory             string
	Time               string // as sbatch takes it; empty: the partition's
	Partition          string
	Account            string
	QOS                string
	Log                string // may hold sbatch's patterns as %j
	Sbatch, Srun       []string

	Directory string   // where relative paths of Config lie
	Program   []string // ddprun, perhaps behind a container's command
	Config    string   // train.yaml
	Sets      []string // --set of each
	AgentArgs []string // further flags of ddprun
	OutputDir string

	SaveBefore    time.Duration // how long before its time limit the run is told to save
	RejoinTimeout time.Duration // how long agents wait for a node that was lost, if fewer than MIN are left
	MaxRequeues   int           // how often the job queues itself again

	Version string // of ddprun, for the head of the script
}

// check refuses what Slurm would not understand, or would understand otherwise.
func (j Job) check() error {
	switch {
	case j.MinNodes < 1 || j.MaxNodes < j.MinNodes:
		return fmt.Errorf("slurm: from %d to %d nodes; want at least 1, and the second number not below the first", j.MinNodes, j.MaxNodes)
	case j.NProc < 1:
		return fmt.Errorf("slurm: %d ranks a node; want at least 1", j.NProc)
	case j.GPUsPerNode < 0 || j.CPUsPerNode < 0 || j.MaxRequeues < 0:
		return errors.New("slurm: a number is negative")
	case j.SaveBefore < time.Second || j.SaveBefore > 65535*time.Second:
		return fmt.Errorf("slurm: the run is to save %v before the time limit; want from 1s to 65535s", j.SaveBefore)
	case j.RejoinTimeout <= 0:
		return fmt.Errorf("slurm: rejoin timeout is %v; it must be positive", j.RejoinTimeout)
	case len(j.Program) == 0:
		return errors.New("slurm: no program given")
	case j.Time != "" && !timeLimit.MatchString(j.Time):
		return fmt.Errorf("slurm: time limit %q; want minutes, HH:MM:SS, D-HH:MM:SS or UNLIMITED", j.Time)
	case strings.Contains(j.Log, `\`):
		return fmt.Errorf("slurm: log %q: with a backslash in it Slurm replaces no %%j", j.Log)
	}
	for what, path := range map[string]string{"directory": j.Directory, "configuration": j.Config, "output directory": j.OutputDir, "log": j.Log} {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("slurm: the %s %q is no absolute path", what, path)
		}
	}
	for _, option := range append(append([]string{}, j.Sbatch...), j.Srun...) {
		if err := checkOption(option); err != nil {
			return err
		}
	}
	for _, text := range [][]string{{j.Name, j.Memory, j.Partition, j.Account, j.QOS, j.Log}, j.Sbatch} {
		for _, value := range text {
			if err := checkLine(value); err != nil {
				return err
			}
		}
	}
	for _, text := range [][]string{{j.Directory, j.Config, j.OutputDir}, j.Program, j.Sets, j.AgentArgs, j.Srun} {
		for _, value := range text {
			if strings.ContainsRune(value, 0) {
				return fmt.Errorf("slurm: %q holds a NUL", value)
			}
		}
	}
	return nil
}

var timeLimit = regexp.MustCompile(`^(UNLIMITED|INFINITE|([0-9]+-)?[0-9]+(:[0-9]+){0,2})$`)

// ours are the options that the script itself sets, by what sets them otherwise.
var ours = map[string]string{
	"nodes": "--nodes of ddprun slurm", "time": "--time of ddprun slurm", "ntasks": "one agent a node starts all its ranks: --nproc",
	"ntasks-per-node": "one agent a node starts all its ranks: --nproc", "no-kill": "--nodes MIN-MAX sets it", "kill-on-bad-exit": "a failed agent must not end the others",
	"wait": "agents end together by themselves", "signal": "--save-before", "open-mode": "the log is appended to", "output": "--log", "requeue": "it is always set",
	"no-requeue": "--max-requeues 0 does not queue again",
	"array":      "its elements would share one output_dir; submit one job for each configuration",
	"het-group":  "one run is one component",
}

// checkOption wants a further option of sbatch or srun to be a long one in one word, and none that would undo the script.
func checkOption(option string) error {
	name, _, _ := strings.Cut(strings.TrimPrefix(option, "--"), "=")
	if !strings.HasPrefix(option, "--") || name == "" || strings.ContainsFunc(name, unicode.IsSpace) {
		return fmt.Errorf("slurm: option %q: want a long one in one word, as --constraint=a100", option)
	}
	if instead, found := ours[name]; found {
		return fmt.Errorf("slurm: option %q: %s", option, instead)
	}
	return nil
}

// checkLine wants what can stand in a line of options: sbatch reads them line by line.
func checkLine(value string) error {
	if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
		return fmt.Errorf("slurm: %q holds what no line of #SBATCH can", value)
	}
	return nil
}
