package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/ddprun/ddprun/internal/config"
)

func newPrepareCommand() *cobra.Command {
	var sets []string
	var format string
	cmd := &cobra.Command{
		Use:   "prepare train.yaml",
		Short: "Turn the text into token shards ahead of time",
		Long: `Makes the token shards that training would make at its start, in shards_dir. What is there already and still fits is
left as it is, and what an interrupted one has finished is gone on from. Prints what became of each text, and the directory of its
shards: that may be named as data itself, elsewhere and without the text. --set data=- prepares standard input.`,
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
			t, err := openText(c)
			if err != nil {
				return err
			}
			defer t.tok.Close()
			t.stdin, t.stdinFormat = cmd.InOrStdin(), format
			return t.withCorpora(cmd, c, 0, func(_ *text, data *corpora) error {
				for _, report := range data.reports {
					report.print(cmd.OutOrStdout())
				}
				if data.cleaned != nil {
					printCleaned(cmd.OutOrStdout(), c, data.cleaned)
				}
				for _, s := range data.train.Streams() {
					if r := s.Report; r.CutTokens > 0 {
						fmt.Fprintf(cmd.OutOrStdout(), "%s: %d longer than a sample (long_samples: truncate): %d tokens cut off, %.2f %%\n",
							s.Name, r.Cut, r.CutTokens, 100*r.CutShare())
					}
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %d samples\n", shardsDir(c), data.train.Len())
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&format, "format", "txt", "how standard input is written, as the `ending` of a file: txt, jsonl, csv.gz, ...")
	cmd.Flags().StringArrayVar(&sets, "set", nil, "set a key over the file and variables, as key=value; repeatable")
	return cmd
}

// print says what became of a text.
func (r namedReport) print(w io.Writer) {
	fmt.Fprintf(w, "%s: %d documents, %d sentences, %d tokens of %d files, in %d shards: %s\n", r.name, r.Documents, r.Sentences, r.Tokens, len(r.Sources), r.Shards, r.Dir)
	for _, left := range []struct {
		n    int64
		what string
	}{{r.EmptyDocuments, "documents without a token left out"}, {r.DroppedDocuments, "documents with nothing to train on left out"},
		{r.Replaced, "bytes or sequences that are not UTF-8 replaced by U+FFFD"}} {
		if left.n > 0 {
			fmt.Fprintf(w, "  %d %s\n", left.n, left.what)
		}
	}
	if n := r.Skipped.Total(); n > 0 {
		fmt.Fprintf(w, "  %d bad records skipped: %s; the first of them:\n", n, r.Skipped.Reasons())
		for _, example := range r.Skipped.Examples {
			fmt.Fprintf(w, "    %s\n", example)
		}
	}
}
