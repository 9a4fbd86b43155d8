package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/internal/train"
)

// evalOptions are the flags of `ddprun eval`.
type evalOptions struct {
	data        []string
	sets        []string
	threads     int
	predictions string
}

func newEvalCommand() *cobra.Command {
	var o evalOptions
	cmd := &cobra.Command{
		Use:   "eval MODEL --data FILE",
		Short: "Evaluate a model; one JSON object on standard output",
		Long: `Computes the objective's loss of a model directory on a text, in one process: masked language modelling, or what
--set objective=... says. Masks and pairs depend on eval_seed and the text alone, so two models are compared on the same words.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return inputError{fmt.Errorf("eval wants one model directory, found %d arguments", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runEval(cmd, args[0], o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.data, "data", nil, "text `FILE` or pattern; repeatable")
	f.StringArrayVar(&o.sets, "set", nil, "set a key of the configuration, such as text_unit=file; repeatable")
	f.IntVar(&o.threads, "threads", runtime.GOMAXPROCS(0), "CPU threads")
	f.StringVar(&o.predictions, "predictions", "", "write what the model says at each masked token, or the texts that it writes, to `FILE`, one JSON object a line")
	return cmd
}

func runEval(cmd *cobra.Command, model string, o evalOptions) error {
	if len(o.data) == 0 {
		return inputError{errors.New("eval wants --data FILE")}
	}
	if o.threads < 1 {
		return inputError{fmt.Errorf("--threads must be at least 1, got %d", o.threads)}
	}
	scratch, err := os.MkdirTemp("", "ddprun-eval-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	c, err := config.FromSets(append([]string{"model=" + model, "output_dir=" + scratch, "data=" + o.data[0]}, o.sets...))
	if err != nil {
		return inputError{err}
	}
	c.Data = config.DataOf(o.data...)
	return withCorpora(cmd, c, 1, func(t *text, data *corpora) error {
		job := &train.Job{Config: c, World: 1, Threads: o.threads, Objectives: t.objectives, Eval: []train.EvalSet{{Samples: data.train}},
			Log: newLogger(cmd.ErrOrStderr(), c, 0)}
		result, err := t.evaluate(job, o.predictions)
		if err != nil {
			return err
		}
		answer, err := describe(result)
		if err != nil {
			return inputError{fmt.Errorf("%s: %w", model, err)}
		}
		answer["model"], answer["samples"] = model, data.train.Len()
		return json.NewEncoder(cmd.OutOrStdout()).Encode(answer)
	})
}

// describe returns the numbers of an evaluation by their names.
func describe(result train.Evaluation) (map[string]any, error) {
	answer := map[string]any{}
	loss := 0.0
	texts := 0
	for _, term := range result {
		if term.Unit != "pairs" {
			texts++
		}
	}
	for _, term := range result {
		prefix := ""
		if texts > 1 {
			prefix = term.Name + "_"
		}
		loss += term.Weight * term.Loss
		if term.Unit == "pairs" {
			answer[term.Unit], answer[term.Name+"_accuracy"] = term.Count, term.Accuracy
		} else {
			answer[prefix+term.Unit], answer[prefix+"perplexity"], answer[prefix+"accuracy"] = term.Count, math.Exp(term.Loss), term.Accuracy
		}
		if term.DecodedSamples > 0 {
			answer[prefix+"decoded_samples"], answer[prefix+"token_accuracy"], answer[prefix+"exact_match"] = term.DecodedSamples, term.TokenAccuracy, term.ExactMatch
		}
		if len(result) > 1 {
			answer[term.Name+"_loss"] = term.Loss
		}
		if perplexity := math.Exp(term.Loss); math.IsNaN(perplexity) || math.IsInf(perplexity, 0) {
			return nil, fmt.Errorf("the loss is %v, which no sound weights give", term.Loss)
		}
	}
	answer["loss"] = loss
	return answer, nil
}

// evaluate computes the loss, and writes the predictions to a file if one is named.
func (t *text) evaluate(job *train.Job, predictions string) (train.Evaluation, error) {
	if predictions == "" {
		return train.Evaluate(job, train.Watcher{})
	}
	f, err := os.Create(predictions)
	if err != nil {
		return train.Evaluation{}, inputError{err}
	}
	result, err := train.Evaluate(job, train.Watcher{Predicted: t.writePredictions(f), Written: t.writeWritings(f)})
	return result, errors.Join(err, f.Close())
}

// predictionLine is one masked token: what stood there, what the model says, and the words around it.
type predictionLine struct {
	Sample int64  `json:"sample"`
	Token  int64  `json:"token"`
	Want   string `json:"want"`
	Got    string `json:"got"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// writePredictions writes each prediction with up to contextTokens of the original text on either side.
func (t *text) writePredictions(w io.Writer) func(train.Prediction) error {
	const contextTokens = 12
	enc := json.NewEncoder(w)
	return func(p train.Prediction) error {
		line := predictionLine{Sample: p.Sample, Token: int64(p.At)}
		var err error
		decode := func(ids []uint32) string {
			s, e := t.tok.Decode(ids, false) // the model may say a special token
			err = errors.Join(err, e)
			return s
		}
		line.Want, line.Got = decode(p.Tokens[p.At:p.At+1]), decode([]uint32{p.Got})
		line.Before = decode(p.Tokens[max(0, p.At-contextTokens):p.At])
		line.After = decode(p.Tokens[p.At+1 : min(len(p.Tokens), p.At+1+contextTokens)])
		if err != nil {
			return err
		}
		return enc.Encode(line)
	}
}

// writingLine is one text that a model wrote, beside what it read and should have written.
type writingLine struct {
	Sample int64  `json:"sample"`
	Read   string `json:"read"`
	Want   string `json:"want"`
	Wrote  string `json:"wrote"`
}

// writeWritings writes each text that the model wrote.
func (t *text) writeWritings(w io.Writer) func(train.Writing) error {
	enc := json.NewEncoder(w)
	return func(x train.Writing) error {
		var err error
		decode := func(ids []int64) string {
			short := make([]uint32, len(ids))
			for i, id := range ids {
				short[i] = uint32(id)
			}
			s, e := t.tok.Decode(short, false)
			err = errors.Join(err, e)
			return s
		}
		line := writingLine{x.Sample, decode(x.Read), decode(x.Want), decode(x.Wrote)}
		if err != nil {
			return err
		}
		return enc.Encode(line)
	}
}
