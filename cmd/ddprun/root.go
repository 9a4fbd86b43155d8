package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ddprun/ddprun/launch"
)

const help = `Continue the pre-training of a Hugging Face language model on your own text, data-parallel over GPUs or CPUs.

train.yaml is one flat YAML file; its keys are those of TrainingArguments in transformers where there is one
(docs/configuration.md). Any key can also be set by a variable, DDPRUN_CFG_LEARNING_RATE=1e-4, or by --set.
The same command resumes an interrupted run from its newest complete checkpoint.`

const examples = `  ddprun train.yaml                                   one rank
  ddprun --nproc 2 train.yaml                         two ranks on this machine
  ddprun --nproc auto train.yaml                      one rank for each GPU
  ddprun --nnodes 2:8 --nproc 8 --join node0 --key-file key train.yaml
                                                      on every node: starts with 8, goes on with 2 or more
  ddprun --set learning_rate=1e-4 --set 'data=[a.txt, b.txt]' train.yaml
  ddprun --print-config train.yaml                    every key, its value, and where that comes from
  ddprun --dry-run --nproc 2 train.yaml               check everything, start nothing`

// exitCodes is launch's table for people.
const exitCodes = `
Exit codes:
  0      done
  1      failed: a fault that no restart mends, or restarts used up
  75     stopped on request, with a checkpoint or what of the text is prepared: start the same command again
  78     wrong configuration or input; nothing was started
  93     three failures without progress
  128+n  ended by signal n
`

// exitError is an error that ends the program with a code of its own. Any other error is one of configuration or input.
type exitError struct {
	code int
	err  error // nil: everything has been said
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// run is main without the exit: it carries out args and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return launch.ExitDone
	}
	code := launch.ExitConfig
	var exit *exitError
	if errors.As(err, &exit) {
		code, err = exit.code, exit.err
	}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(stderr, "ddprun: %s\n", strings.TrimRight(line, "\n"))
		}
	}
	return code
}

// newRoot is the command line.
func newRoot(stdout, stderr io.Writer) *cobra.Command {
	o := &trainOptions{stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:              "ddprun [flags] train.yaml",
		Short:            "Continue a language model's pre-training, data-parallel",
		Long:             help,
		Example:          examples,
		Version:          version(),
		Args:             oneFile,
		RunE:             func(cmd *cobra.Command, args []string) error { return train(cmd.Context(), o, args[0]) },
		SilenceErrors:    true,
		SilenceUsage:     true,
		TraverseChildren: true, // so that flags before a sub-command are ours and those after it the worker's
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetUsageTemplate(root.UsageTemplate() + "{{if not .HasParent}}" + exitCodes + "{{end}}")
	root.SetGlobalNormalizationFunc(normalizeFlag)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return fmt.Errorf("%w (ddprun --help lists the flags; keys of train.yaml are set by --set key=value)", err)
	})
	o.addFlags(root.Flags())
	root.AddCommand(newStatus(), newVersion(), newHelper(), newK8s(stdout), newSlurm())
	for _, command := range workerCommands {
		root.AddCommand(newWorkerCommand(command, &o.worker))
	}
	return root
}

// normalizeFlag takes torchrun's spellings: --nproc_per_node and --nproc-per-node are --nproc.
func normalizeFlag(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	name = strings.ReplaceAll(name, "_", "-")
	if ours, found := aliases[name]; found {
		name = ours
	}
	return pflag.NormalizedName(name)
}

func oneFile(_ *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return errors.New("no configuration file given; want: ddprun [flags] train.yaml (ddprun --help tells more)")
	case len(args) > 1:
		return fmt.Errorf("want one configuration file, got %d: %s (and %q is no command of ddprun)",
			len(args), strings.Join(args, " "), args[0])
	}
	return nil
}
