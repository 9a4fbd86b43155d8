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
	"github.com/ddprun/ddprun/shard"
)

// inspectOptions are the flags of `ddprun inspect`.
type inspectOptions struct {
	sets    []string
	samples int
	epoch   int64
	nproc   int
	numbers []int64
	step    int64
	lane    int
}

func newInspectCommand() *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect train.yaml",
		Short: "Show samples as the model gets them, with what is hidden",
		Long: `Shows samples as training makes them, the first ones of an epoch or those that --sample or --step name: where each comes from and when
its turn is; its text; its tokens with the special ones, and at each token that the model shall predict, the right one in
brackets, as in "[MASK](light)". A pair of sentences has its class. What a model such as T5 shall write stands after "->". Makes
the token shards where they are not there yet.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return inputError{fmt.Errorf("inspect wants one configuration file, found %d arguments", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd.Flags().Changed); err != nil {
				return inputError{err}
			}
			return runInspect(cmd, args[0], o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.sets, "set", nil, "set a key over the file and variables, as key=value; repeatable")
	f.IntVar(&o.samples, "samples", 5, "how many samples")
	f.Int64Var(&o.epoch, "epoch", 0, "of which epoch, counted from 0")
	f.Int64SliceVar(&o.numbers, "sample", nil, "show the sample of this `NUMBER` in the epoch, as sample_log writes it; repeatable")
	f.Int64Var(&o.step, "step", 0, "show what this `STEP` of the run trains on, counted from 1 as in metrics.jsonl")
	f.IntVar(&o.lane, "lane", -1, "of --step, show this `LANE` alone, counted from 0")
	f.IntVar(&o.nproc, "nproc", 1, "ranks, where global_batch_size does not fix the number of lanes")
	return cmd
}

// check refuses flags that say nothing together.
func (o inspectOptions) check(given func(flag string) bool) error {
	switch {
	case o.samples < 1 || o.epoch < 0 || o.nproc < 1:
		return errors.New("--samples and --nproc must be at least 1, --epoch at least 0")
	case given("step") && o.step < 1 || given("lane") && o.lane < 0:
		return errors.New("--step must be at least 1, --lane at least 0")
	case given("step") && (given("sample") || given("samples") || given("epoch")):
		return errors.New("--step says which samples of which epoch: leave out --sample, --samples and --epoch")
	case given("sample") && given("samples"):
		return errors.New("--sample and --samples exclude each other")
	case given("lane") && !given("step"):
		return errors.New("--lane goes with --step")
	}
	return nil
}

func runInspect(cmd *cobra.Command, path string, o inspectOptions) error {
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
		what := train.Inspection{Lanes: lanes, Epoch: o.epoch, Samples: o.samples, Numbers: o.numbers, Step: o.step, Lane: o.lane}
		return train.Inspect(cmd.Context(), job, what, func(s train.Inspected) error { return t.show(cmd.OutOrStdout(), data.train, s) })
	})
}

// show writes a sample: where it comes from and when its turn is, its text, and what the model gets.
func (t *text) show(w io.Writer, samples *shard.Dataset, s train.Inspected) error {
	origin, err := samples.Origin(s.Epoch, s.Number)
	if err != nil {
		return err
	}
	b := s.Batch
	var out strings.Builder
	fmt.Fprintf(&out, "sample %d of %d, epoch %d, ", s.Number, samples.Len(), s.Epoch)
	if s.Step == 0 {
		out.WriteString("left out of it, ")
	} else {
		fmt.Fprintf(&out, "step %d, lane %d, ", s.Step, s.Lane)
	}
	if streams := samples.Streams(); len(streams) > 1 {
		ref := samples.Ref(s.Epoch, s.Number)
		fmt.Fprintf(&out, "sample %d of stream %s, ", ref.Sample, streams[ref.Stream].Name)
	}
	fmt.Fprintf(&out, "%s, %d tokens, from %s, line %d, byte %d on, document %d from token %d on",
		s.Objective, b.Tokens(), origin.Path, origin.Line, origin.Offset, origin.Document, origin.Token)
	for _, class := range b.PairLabels {
		fmt.Fprintf(&out, ", class %d", class)
	}
	var plain shard.Sample
	if err := samples.At(s.Epoch, s.Number, &plain); err != nil {
		return err
	}
	for _, tokens := range [][]uint32{plain.Tokens, plain.Next} { // of a pair, what follows in the text
		if len(tokens) > 0 {
			decoded, err := t.tok.Decode(tokens, false)
			if err != nil {
				return err
			}
			out.WriteString("\n| " + strings.ReplaceAll(decoded, "\n", "\n| "))
		}
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
