// Command ddprun-worker is one rank of a training run, and whatever else needs libtorch or a tokenizer. People start it
// through ddprun.
package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/ddprun/ddprun/internal/train"
)

func main() {
	err := newRootCommand().Execute()
	if err != nil {
		fmt.Fprintf(os.Stderr, "ddprun: %v\n", err)
	}
	os.Exit(exitCode(err))
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "ddprun-worker",
		Short:         "The part of ddprun that needs libtorch or a tokenizer",
		Version:       version(),
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "ddprun"}, // how people start the commands that it lists
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return inputError{fmt.Errorf("no command %q; --help lists them", args[0])}
			}
			return nil
		},
		RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return inputError{err} })
	root.AddCommand(newTrainCommand(), newCheckCommand(), newEvalCommand(), newPrepareCommand(), newInspectCommand(), newTokenizeCommand())
	return root
}

// version is what the Go linker has recorded, beside libtorch's.
func version() string {
	module := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		module = info.Main.Version
	}
	return module + " libtorch " + train.LibtorchVersion()
}
