package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/internal/train"
	"github.com/ddprun/ddprun/objectives"
	"github.com/ddprun/ddprun/shard"
)

// inspectOptions are the flags of `ddprun inspect`.
type inspectOptions struct {
	sets    []string
	samples int
	epoch   int64
	nproc   int
}

func newInspectCommand() *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect train.yaml",
		Short: "Show samples as the model gets them, with what is hidden",
		Long: `Shows the first samples of an epoch as training makes them: their tokens with the special ones, and at each token that the model shall
predict, the right one in brackets, as in "[MASK](light)". A pair of sentences has its class. What a model such as T5 shall
write stands after "->". Makes the token shards where they are not there yet.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return inputError{fmt.Errorf("inspect wants one configuration file, found %d arguments", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runInspect(cmd, args[0], o) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.sets, "set", nil, "set a key over the file and variables, as key=value; repeatable")
	f.IntVar(&o.samples, "samples", 5, "how many samples")
	f.Int64Var(&o.epoch, "epoch", 0, "of which epoch, counted from 0")
	f.IntVar(&o.nproc, "nproc", 1, "ranks, where global_batch_size does not fix the number of lanes")
	return cmd
}

func runInspect(cmd *cobra.Command, path string, o inspectOptions) error {
	if o.samples < 1 || o.epoch < 0 || o.nproc < 1 {
		return inputError{errors.New("--samples and --nproc must be at least 1, --epoch at least 0")}
	}
	loaded, err := config.Load(path, o.sets, os.Environ())
	if err != nil {
		return inputError{err}
	}
	c := loaded.Config
	lanes, err := c.Lanes(o.nproc)
	if err != nil {
		return inputError{err}
	}
	return withCorpora(cmd, c, 0, func(t *text, data *corpora) error {
		job := &train.Job{Config: c, World: 1, Train: data.train, PlansDir: plansDir(shardsDir(c)), Objectives: t.objectives}
		return train.Inspect(cmd.Context(), job, lanes, o.epoch, o.samples, func(index int64, objective string, b *objectives.Batch) error {
			return t.show(cmd.OutOrStdout(), data.train, o.epoch, index, objective, b)
		})
	})
}

// show writes the one sample of a batch.
func (t *text) show(w io.Writer, samples *shard.Dataset, epoch, index int64, objective string, b *objectives.Batch) error {
	origin, err := samples.Origin(epoch, index)
	if err != nil {
		return err
	}
	var out strings.Builder
	fmt.Fprintf(&out, "sample %d of %d, %s, %d tokens, from %s, line %d, byte %d on",
		index, samples.Len(), objective, b.Tokens(), origin.Path, origin.Line, origin.Offset)
	for _, class := range b.PairLabels {
		fmt.Fprintf(&out, ", class %d", class)
	}
	out.WriteString("\n ")
	label := 0
	for i, id := range b.IDs {
		token, e := t.token(id)
		err = errors.Join(err, e)
		out.WriteString(" " + token)
		if label < len(b.Labelled) && b.Labelled[label] == int64(i) {
			right, e := t.token(b.Labels[label])
			err = errors.Join(err, e)
			out.WriteString("(" + right + ")")
			label++
		}
	}
	if len(b.Targets) > 0 {
		out.WriteString("\n  ->")
	}
	for _, id := range b.Targets {
		token, e := t.token(id)
		err = errors.Join(err, e)
		out.WriteString(" " + token)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, out.String())
	return err
}

// token is how the vocabulary writes an id.
func (t *text) token(id int64) (string, error) {
	token, found, err := t.tok.IDToToken(uint32(id))
	if err == nil && !found {
		token = fmt.Sprintf("<%d>", id) // a row of the embeddings that no token has
	}
	return token, err
}
