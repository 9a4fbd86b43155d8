package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/launch"
	"github.com/ddprun/ddprun/slurm"
)

const slurmHelp = `Write an sbatch script that trains on several nodes: it starts one agent a node, saves a checkpoint before the time limit
and queues the job again, goes on after lost nodes, and stops for good when the run is done or cannot go on.

The script goes to standard output, or with --submit to sbatch. What follows -- is given to ddprun on the nodes
(ddprun --help). The configuration, the model, the text and output_dir must lie where all nodes see them, under the same paths.`

const slurmExamples = `  ddprun slurm train.yaml --nodes 4 --gpus-per-node 8 --time 24:00:00 >job.sh      read it, then: sbatch job.sh
  ddprun slurm train.yaml --nodes 2-8 --gpus-per-node 8 --time 24:00:00 --submit   goes on while 2 nodes are left
  ddprun slurm train.yaml --nodes 2 --nproc 4 --cpus-per-node 16 --partition cpu --submit
  ddprun slurm train.yaml --nodes 4 --gpus-per-node 8 --prefix 'apptainer exec --nv /shared/ddprun.sif' -- --tee all`

// slurmOptions are the flags of ddprun slurm.
type slurmOptions struct {
	job     slurm.Job
	nodes   string
	log     string
	ddprun  string
	prefix  string
	sets    []string
	submit  bool
	program string // sbatch; another in tests
}

func newSlurm() *cobra.Command {
	o := &slurmOptions{program: "sbatch"}
	cmd := &cobra.Command{
		Use:     "slurm train.yaml --nodes N|MIN-MAX [flags] [-- flags of ddprun]",
		Short:   "Write (or --submit) an sbatch script for several nodes",
		Long:    slurmHelp,
		Example: slurmExamples,
		Args: func(cmd *cobra.Command, args []string) error {
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				args = args[:at]
			}
			return oneFile(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args[0], args[1:], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags, job := cmd.Flags(), &o.job
	flags.SortFlags = false
	flags.StringVar(&o.nodes, "nodes", "", "`N` nodes; or MIN-MAX, which starts with what there is and goes on with MIN")
	flags.IntVar(&job.GPUsPerNode, "gpus-per-node", 0, "GPUs of each node")
	flags.IntVar(&job.NProc, "nproc", 0, "ranks a node (default: one for each GPU)")
	flags.IntVar(&job.CPUsPerNode, "cpus-per-node", 0, "CPUs of each node (default: whole nodes)")
	flags.StringVar(&job.Memory, "mem", "", "memory of each node, as sbatch takes it")
	flags.StringVar(&job.Time, "time", "", "time limit of one start, as sbatch takes it (24:00:00)")
	flags.StringVar(&job.Name, "job-name", "", "name of the job (default: output_dir's last part)")
	flags.StringVar(&job.Partition, "partition", "", "partition")
	flags.StringVar(&job.Account, "account", "", "account")
	flags.StringVar(&job.QOS, "qos", "", "quality of service")
	flags.StringVar(&o.log, "log", "", "`file` for what the script and the agents say, %j is the job (default: NAME-%j.log here)")
	flags.DurationVar(&job.SaveBefore, "save-before", 2*time.Minute, "how long before the time limit the run saves a checkpoint and ends")
	flags.DurationVar(&job.RejoinTimeout, "rejoin-timeout", time.Minute, "how long the others wait for a lost node, if fewer than MIN are left")
	flags.IntVar(&job.MaxRequeues, "max-requeues", 100, "how often the job queues itself again")
	flags.StringArrayVar(&o.sets, "set", nil, "set a key over the file, as `key=value`; repeatable")
	flags.StringVar(&o.prefix, "prefix", "", "`command` of a container in front of ddprun, split at spaces")
	flags.StringVar(&o.ddprun, "ddprun", "", "`path` of ddprun on the nodes (default: this program, or ddprun in a container)")
	flags.StringArrayVar(&job.Sbatch, "sbatch", nil, "further `option` of sbatch, as --sbatch=--constraint=a100; repeatable")
	flags.StringArrayVar(&job.Srun, "srun", nil, "further `option` of srun, as --srun=--container-image=image.sqsh; repeatable")
	flags.BoolVar(&o.submit, "submit", false, "give the script to sbatch, which answers with the job's number")
	return cmd
}

// run writes or submits the script for the configuration at path.
func (o *slurmOptions) run(ctx context.Context, path string, agentArgs []string, stdout, stderr io.Writer) error {
	job, err := o.settle(path, agentArgs)
	if err != nil {
		return err
	}
	text, err := job.Script()
	if err != nil {
		return err
	}
	if !o.submit {
		_, err := io.WriteString(stdout, text)
		return err
	}
	sbatch := exec.CommandContext(ctx, o.program)
	sbatch.Stdin, sbatch.Stdout, sbatch.Stderr = strings.NewReader(text), stdout, stderr
	if err := sbatch.Run(); err != nil {
		return &exitError{launch.ExitFailed, fmt.Errorf("%s: %w", o.program, err)}
	}
	return nil
}

// settle reads the configuration and fills in what follows from it.
func (o *slurmOptions) settle(path string, agentArgs []string) (slurm.Job, error) {
	job := o.job
	loaded, err := config.Load(path, o.sets, os.Environ())
	if err != nil {
		return job, err
	}
	c := loaded.Config
	if job.MinNodes, job.MaxNodes, err = parseNodeRange(o.nodes); err != nil {
		return job, err
	}
	if job.NProc == 0 {
		job.NProc = job.GPUsPerNode
	}
	if job.NProc < 1 || job.NProc > launch.MaxWorkers {
		return job, fmt.Errorf("--nproc: want from 1 to %d ranks a node, got %d: give --gpus-per-node, or --nproc where there are none", launch.MaxWorkers, job.NProc)
	}
	if _, err := c.ElasticLanes(job.MinNodes*job.NProc, job.MaxNodes*job.NProc); err != nil {
		return job, err
	}
	if err := checkAgentArgs(agentArgs); err != nil {
		return job, err
	}
	job.Sets, job.AgentArgs, job.Version = o.sets, agentArgs, version()
	if job.Directory, err = os.Getwd(); err != nil {
		return job, err
	}
	absolute := func(name string) string { return filepath.Join(job.Directory, name) }
	job.Config, job.OutputDir = path, c.OutputDir
	if !filepath.IsAbs(path) {
		job.Config = absolute(path)
	}
	if !filepath.IsAbs(c.OutputDir) {
		job.OutputDir = absolute(c.OutputDir)
	}
	if job.Name == "" {
		job.Name = filepath.Base(job.OutputDir)
	}
	switch {
	case o.log == "":
		job.Log = slurm.Pattern(absolute(strings.ReplaceAll(job.Name, "/", "-"))) + "-%j.log"
	case filepath.IsAbs(o.log):
		job.Log = o.log
	default:
		job.Log = slurm.Pattern(job.Directory) + "/" + o.log
	}
	job.Program, err = o.agent()
	return job, err
}

// agent is how ddprun is started on the nodes.
func (o *slurmOptions) agent() ([]string, error) {
	program := o.ddprun
	contained := o.prefix != "" || strings.Contains(strings.Join(o.job.Srun, " "), "--container")
	switch {
	case program != "":
	case contained:
		program = "ddprun"
	default:
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		program = self
	}
	return append(strings.Fields(o.prefix), program), nil
}

// checkAgentArgs refuses flags that the script or Slurm gives.
func checkAgentArgs(args []string) error {
	given := []string{"nnodes", "node-rank", "join", "key-file", "run-id", "rejoin-timeout", "nproc", "nproc-per-node", "insecure", "set"}
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		name = strings.ReplaceAll(name, "_", "-")
		for _, g := range given {
			if name == g {
				return fmt.Errorf("%s behind --: the script gives that flag itself", arg)
			}
		}
	}
	return nil
}

// parseNodeRange reads --nodes: N, or MIN-MAX as Slurm writes it.
func parseNodeRange(text string) (low, high int, err error) {
	if text == "" {
		return 0, 0, errors.New("--nodes: is required: N, or MIN-MAX for a run that goes on with fewer")
	}
	from, to, found := strings.Cut(strings.ReplaceAll(text, ":", "-"), "-")
	if !found {
		to = from
	}
	low, errLow := strconv.Atoi(from)
	high, errHigh := strconv.Atoi(to)
	if errLow != nil || errHigh != nil || low < 1 || high < low {
		return 0, 0, fmt.Errorf("--nodes: want N or MIN-MAX, got %q", text)
	}
	return low, high, nil
}
