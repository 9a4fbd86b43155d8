package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ddprun/ddprun/internal/config"
)

func newPrepareCommand() *cobra.Command {
	var sets []string
	cmd := &cobra.Command{
		Use:   "prepare train.yaml",
		Short: "Turn the text into token shards ahead of time",
		Long: `Makes the token shards that training would make at its start, in shards_dir. What is there already and still fits is
left as it is.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return inputError{fmt.Errorf("prepare wants one configuration file, found %d arguments", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := config.Load(args[0], sets, os.Environ())
			if err != nil {
				return inputError{err}
			}
			c := loaded.Config
			return withCorpora(cmd, c, 0, func(_ *text, data *corpora) error {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %d samples\n", shardsDir(c), data.train.Len())
				return nil
			})
		},
	}
	cmd.Flags().StringArrayVar(&sets, "set", nil, "set a key over the file and variables, as key=value; repeatable")
	return cmd
}
