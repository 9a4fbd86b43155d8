package main

import (
	"github.com/spf13/cobra"

	"github.com/ddprun/ddprun/launch"
)

// helperCommand is the name under which ddprun starts itself for launch's small processes beside the workers.
const helperCommand = "launch-helper"

func newHelper() *cobra.Command {
	return &cobra.Command{
		Use:                helperCommand,
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := launch.Helper(args); err != nil {
				return &exitError{launch.ExitFailed, err}
			}
			return nil
		},
	}
}
