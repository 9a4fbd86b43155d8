package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ddprun/ddprun/internal/generation"
)

// Run is whose generation it is. Agents may be empty.
type Run = generation.Run

// ResumeMode returns what resume_from_checkpoint: mode means to a generation of run: where it goes on with an earlier one, which has left a checkpoint,
// it does not begin anew.
func ResumeMode(outputDir, mode string, run Run) (string, error) {
	if mode == ResumeAuto {
		return mode, nil
	}
	before, err := generation.LastRun(outputDir)
	if err != nil || !run.GoesOn(before) {
		return mode, err
	}
	if newest, err := Newest(outputDir); err != nil || newest == 0 {
		return mode, err
	}
	return ResumeAuto, nil
}

// Newest returns the step of the newest checkpoint that a run in outputDir would go on from, 0 where there is none: it counts, and has every file in
// its length. The files are not read, so Load may still find it damaged.
func Newest(outputDir string) (step int64, err error) {
	checkpoints, err := list(outputDir)
	if err != nil {
		return 0, err
	}
	for i := len(checkpoints) - 1; i >= 0; i-- {
		if c := checkpoints[i]; c.ours && c.counts {
			if whole, err := quickCheck(c.path); whole || err != nil {
				return c.step, err
			}
		}
	}
	return 0, nil
}

// Begin says that generation g goes on from the checkpoint after step steps, 0: from the model. Later checkpoints of earlier generations count no more. Rank 0
// calls it before anything is written. It is refused with ErrSuperseded once a later generation is claimed.
func Begin(outputDir string, g uint64, step int64, run Run) error {
	if err := mayWrite(outputDir, g); err != nil {
		return err
	}
	between("begin: may write")
	if err := generation.Begin(outputDir, number(g), step, run); err != nil {
		return err
	}
	between("begin: begun")
	if err := mayWrite(outputDir, g); err != nil { // the later one may have begun further on, from a checkpoint that this start leaves behind
		return errors.Join(err, generation.TakeBack(outputDir, number(g), step))
	}
	return nil
}

// Settle cleans the output directory for generation g and decides how it begins, as Decide says for [ResumeMode]; refused is Decide's error. A process of an earlier generation that is
// stopped in the midst of writing, and goes on, may have a checkpoint of the run aside for a moment; so the directory must look the same before and after.
func Settle(ctx context.Context, outputDir string, g uint64, mode string, overwrite bool, run Run) (d Decision, refused, err error) {
	for range maxLooks {
		if _, err := Clean(outputDir, g); err != nil {
			return Decision{}, nil, err
		}
		before, err := list(outputDir)
		if err != nil {
			return Decision{}, nil, err
		}
		between("settle: listed")
		meant, err := ResumeMode(outputDir, mode, run)
		if err != nil {
			return Decision{}, nil, err
		}
		d, refused := Decide(ctx, outputDir, meant, overwrite)
		if ctx.Err() != nil {
			return Decision{}, nil, context.Cause(ctx)
		}
		between("settle: decided")
		restored, err := Clean(outputDir, g)
		if err != nil {
			return Decision{}, nil, err
		}
		after, err := list(outputDir)
		if err != nil {
			return Decision{}, nil, err
		}
		if !restored && slices.Equal(before, after) {
			return d, refused, nil
		}
	}
	return Decision{}, nil, fmt.Errorf("%s: its checkpoints change faster than they can be read", outputDir)
}
