package train

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/ddprun/ddprun/internal/checkpoint"
	"github.com/ddprun/ddprun/internal/config"
)

// CheckStart tells why a run of least to most ranks could not begin with this configuration and what lies in its output_dir, before anything is
// written: an error of kind [ErrInput]; or the end of ctx has ended it. runID is the run's; empty: a new one. digest returns the digest of the training samples; it is called only where a checkpoint is
// compared with. lanes is what [CheckLength] wants.
func CheckStart(ctx context.Context, c *config.Config, runID string, least, most int, digest func() (string, error)) (lanes int, err error) {
	mode, err := checkpoint.ResumeMode(c.OutputDir, c.ResumeFromCheckpoint, checkpoint.Run{ID: runID})
	if err != nil {
		return 0, err
	}
	d, err := checkpoint.Decide(ctx, c.OutputDir, mode, c.OverwriteOutputDir)
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	} else if err != nil {
		return 0, mark(ErrInput, err)
	}
	if d.Resume == nil {
		lanes, err = c.ElasticLanes(least, most)
		return lanes, mark(ErrInput, err)
	}
	samples, err := digest()
	if err != nil {
		return 0, mark(ErrInput, err)
	}
	_, err = resumable(c, least, samples, d.Resume)
	return d.Resume.State.Lanes, mark(ErrInput, err)
}

// CheckLength tells why there would be no step to run, or a sample is too long for a micro-batch: an error of kind [ErrInput]. It needs job's Config, Train,
// Objectives and PlansDir alone.
func CheckLength(ctx context.Context, job *Job, lanes int) error {
	p, err := job.newPlan(ctx, lanes)
	if err != nil {
		return mark(ErrInput, err)
	}
	p.close()
	return nil
}

// resumable returns what has changed since a checkpoint, or why this run cannot go on from it. samples is the digest of the training
// samples. The ranks are at least least.
func resumable(c *config.Config, least int, samples string, ckpt *checkpoint.Checkpoint) ([]config.Difference, error) {
	differences, err := c.Differences(ckpt.State.Config)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", ckpt.Path, err)
	}
	var refused []string
	for _, d := range differences {
		if !d.Allowed {
			refused = append(refused, fmt.Sprintf("%s: %s then, %s now", d.Key, d.Old, cmp.Or(d.New, "not a key")))
		}
	}
	if len(refused) == 0 && ckpt.State.ShardsDigest != samples {
		why := "data: the text, the weights of its streams or the model's tokenizer have changed"
		if c.Deduplicate != "none" {
			why += ", or eval_data, whose documents deduplicate drops from data"
		}
		refused = append(refused, why)
	}
	if len(refused) > 0 {
		return nil, fmt.Errorf("cannot go on from %s: %s; set the earlier values, choose another output_dir, or begin anew with "+
			"resume_from_checkpoint: none and overwrite_output_dir: true", ckpt.Path, strings.Join(refused, "; "))
	}
	if least > ckpt.State.Lanes {
		return nil, fmt.Errorf("cannot go on from %s with %d ranks: its global batch has %d lanes, so at most as many ranks can share it",
			ckpt.Path, least, ckpt.State.Lanes)
	}
	return differences, nil
}
