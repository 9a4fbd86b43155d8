package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of ddprun",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintln(cmd.OutOrStdout(), version())
		},
	}
}

// version is what the Go linker has recorded: the module's version (a tag, or commit and date) and the toolchain.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "ddprun (built without module information)"
	}
	return fmt.Sprintf("ddprun %s %s", info.Main.Version, info.GoVersion)
}
