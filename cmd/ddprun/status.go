package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/launch"
)

func newStatus() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status [train.yaml | output_dir]",
		Short: "Show what a run on this machine is doing",
		Long: `Show what a run of this user is doing, as its agent on this machine sees it: nodes, ranks, generation, step, speed, newest checkpoint, who is slow.
Without an argument all runs on this machine are shown. Exit code 0 if an agent answers, 1 if none does.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			outputDir, err := runsDirectory(args)
			if err != nil {
				return err
			}
			return showStatus(cmd.OutOrStdout(), outputDir, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line for each agent that answers")
	return c
}

// runsDirectory is the output_dir that the argument of status names; empty: none was given.
func runsDirectory(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	if info, err := os.Stat(args[0]); err == nil && info.IsDir() {
		return args[0], nil
	}
	loaded, err := config.Load(args[0], nil, os.Environ())
	if err != nil {
		return "", err
	}
	return loaded.Config.OutputDir, nil
}

// showStatus asks the agents and prints what they say.
func showStatus(w io.Writer, outputDir string, asJSON bool) error {
	all := launch.AskStatus(outputDir)
	if len(all) == 0 {
		where := "no ddprun of this user answers on this machine"
		if outputDir != "" {
			where = fmt.Sprintf("no ddprun of this user that works in %s answers on this machine", outputDir)
		}
		return &exitError{launch.ExitFailed, errors.New(where)}
	}
	for i, s := range all {
		if asJSON {
			if err := json.NewEncoder(w).Encode(s); err != nil {
				return &exitError{launch.ExitFailed, err}
			}
			continue
		}
		if i > 0 {
			fmt.Fprintln(w)
		}
		printStatus(w, s)
	}
	return nil
}

// printStatus prints a status for people.
func printStatus(w io.Writer, s launch.Status) {
	fmt.Fprintf(w, "run %s (agent %d on %s), up %v\n", s.RunID, s.PID, s.Host, seconds(s.Seconds))
	if s.OutputDir != "" {
		fmt.Fprintf(w, "output_dir %s\n", s.OutputDir)
	}
	if s.Generation < 0 {
		fmt.Fprintln(w, "no workers yet")
		return
	}
	fmt.Fprintf(w, "generation %d, %s on %s, started again %s\n", s.Generation, count(s.World, "rank"), count(len(s.Nodes), "node"), count(s.Restarts, "time"))
	fmt.Fprintln(w, progressLine(s))
	if slow := s.Slow(); slow >= 0 {
		fmt.Fprintf(w, "slow: rank %d%s\n", slow, hostOf(s, slow))
	}
	if len(s.Nodes) > 1 {
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "\nNODE\tRANKS\tSTATE")
		for _, n := range s.Nodes {
			fmt.Fprintf(table, "%s\t%s\t%s\n", n.Host, ranks(n.FirstRank, n.Ranks), n.State)
		}
		table.Flush()
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nRANK\tHOST\tPID\tPHASE\tSTEP\tBEAT\tPROGRESS\tDOING")
	for _, r := range s.Ranks {
		fmt.Fprintf(table, "%d\t%s\t%d\t%s\t%d\t%s\t%s\t%s\n", r.Rank, r.Host, r.PID, phase(r), r.Step, since(r.BeatSeconds), since(r.MovedSeconds), r.Doing)
	}
	table.Flush()
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprint(n, " ", what)
}

// progressLine says how far the training is, as far as that is known here.
func progressLine(s launch.Status) string {
	var parts []string
	add := func(format, name string) {
		if x, ok := s.Value(name); ok {
			parts = append(parts, fmt.Sprintf(format, x))
		}
	}
	step := int64(0)
	for _, r := range s.Ranks {
		step = max(step, r.Step)
	}
	part := fmt.Sprintf("step %d", step)
	if total, ok := s.Value("total_steps"); ok {
		part += fmt.Sprintf(" of %.0f", total)
	}
	parts = append(parts, part)
	add("epoch %.2f", "epoch")
	add("loss %.4f", "loss")
	add("eval_loss %.4f", "eval_loss")
	add("%.0f tokens/s", "tokens_per_second")
	if newest := s.Checkpoint(); newest > 0 {
		parts = append(parts, fmt.Sprintf("newest checkpoint at %d", newest))
	} else {
		parts = append(parts, "no checkpoint yet")
	}
	return strings.Join(parts, ", ")
}

// phase is a rank's phase, or that it cannot be in any.
func phase(r launch.RankStatus) string {
	switch {
	case !r.Up:
		return "ended"
	case r.State == "T":
		return "stopped"
	case r.State == "t":
		return "debugged"
	case r.Phase == "":
		return "loading"
	}
	return string(r.Phase)
}

func hostOf(s launch.Status, rank int) string {
	for _, r := range s.Ranks {
		if r.Rank == rank {
			return " (" + r.Host + ")"
		}
	}
	return ""
}

// ranks writes a range of ranks.
func ranks(first, n int) string {
	switch n {
	case 0:
		return "-"
	case 1:
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, first+n-1)
}

func since(x float64) string {
	if x < 0 {
		return "-"
	}
	return seconds(x).String() + " ago"
}

func seconds(x float64) time.Duration {
	d := time.Duration(x * float64(time.Second))
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
