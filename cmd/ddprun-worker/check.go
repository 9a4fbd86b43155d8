package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/train"
)

func newCheckCommand() *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:    "check",
		Short:  "Check a configuration from standard input; ddprun does so before it starts the ranks",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			raw, err := io.ReadAll(cmd.InOrStdin())
			if err != nil {
				return err
			}
			c, err := config.Decode(raw)
			if err != nil {
				return inputError{err}
			}
			sums, err := check(cmd.Context(), c, o, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(sums)
		},
	}
	cmd.Flags().IntVar(&o.least, "nproc", 1, "ranks of the run; of one whose number of nodes may change, the least")
	cmd.Flags().IntVar(&o.most, "max-nproc", 0, "... and the most (default: the same)")
	cmd.Flags().IntVar(&o.local, "local-nproc", 0, "... and those of this node (default: --nproc)")
	cmd.Flags().StringVar(&o.runID, "run-id", "", "`name` of the run: what it has written to output_dir itself is not in its way")
	cmd.Flags().BoolVar(&o.shared, "shared", false, "several nodes check the same: shards that were made stay, since others may be using them, also where the check fails")
	cmd.Flags().BoolVar(&o.dry, "dry-run", false, "leave nothing behind")
	return cmd
}

// checkOptions is what is checked beside the configuration.
type checkOptions struct {
	least, most int // ranks
	local       int // of them, on this node; 0: least
	runID       string
	shared      bool
	dry         bool
}

// check refuses what the ranks would refuse. On the way it prepares the text, which they find done; where that fails, or in a dry
// run, everything it made is gone again, but for parts of a large text that are finished, and shards that other nodes may have found.
func check(ctx context.Context, c *config.Config, o checkOptions, stderr io.Writer) (sums digests, err error) {
	o.most = max(o.most, o.least)
	if _, err := c.ElasticLanes(o.least, o.most); err != nil {
		return sums, inputError{err}
	}
	if err := train.CheckDevice(c, cmp.Or(o.local, o.least), o.most); err != nil {
		return sums, err
	}
	if err := hf.CheckExtras(c.Model); err != nil {
		return sums, inputError{err}
	}
	t, err := openText(c)
	if err != nil {
		return sums, err
	}
	defer t.tok.Close()
	if err := train.CheckMetric(c, t.objectives); err != nil {
		return sums, err
	}
	ctx, release := untilSignal(ctx)
	defer release()
	lanes, err := train.CheckStart(ctx, c, o.runID, o.least, o.most, func() (string, error) { return t.trainingDigest(c) })
	if err != nil {
		return sums, stopped(ctx, err)
	}
	dir := shardsDir(c)
	if o.dry {
		if dir, err = os.MkdirTemp("", "ddprun-dry-run-"); err != nil {
			return sums, err
		}
		defer os.RemoveAll(dir)
	}
	parents := missingParents(dir)
	data, err := t.openCorpora(ctx, c, dir, stderr, newLogger(stderr, c, 0))
	err = stopped(ctx, err)
	defer data.close()
	if err == nil {
		err = train.CheckLength(ctx, &train.Job{Config: c, Train: data.train, Objectives: t.objectives, PlansDir: plansDir(dir)}, lanes)
	}
	if err == nil {
		sums, err = digestsOf(c, t, data)
	}
	if err != nil && !errors.Is(err, errStopped) && (!o.shared || o.dry) {
		data.undo()
		remove(parents)
	}
	return sums, err
}

// missingParents lists dir and those above it that do not exist, the deepest first.
func missingParents(dir string) []string {
	var missing []string
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return missing
		}
		missing = append(missing, dir)
		dir = filepath.Dir(dir)
	}
}

// remove removes the shards' directory, with what was prepared before something failed, and those above it that are empty. It
// gets those that this process has made, the deepest first: what was there before stays, and so do shards.
func remove(made []string) {
	for i, dir := range made {
		if i == 0 {
			if works, err := filepath.Glob(filepath.Join(dir, "*", "shard-*")); err != nil || len(works) > 0 {
				return
			}
			if works, err := filepath.Glob(filepath.Join(dir, ".work-*", "shard-*")); err != nil || len(works) > 0 {
				return
			}
			os.RemoveAll(dir)
		} else if os.Remove(dir) != nil {
			return
		}
	}
}
