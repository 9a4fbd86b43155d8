package train

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/checkpoint"
	"github.com/ddprun/ddprun/internal/torch"
)

// beginning is where a run starts.
type beginning struct {
	step       int64
	lanes      int
	checkpoint *checkpoint.Checkpoint // nil: from the model
}

// beginKey is where rank 0 tells the others which checkpoint they start from; empty: none.
const beginKey = "train/begin"

// begin decides where the run starts. Rank 0 decides and tidies the output directory; the others follow.
func begin(job *Job) (beginning, error) {
	c := job.Config
	ckpt, err := sharedDecision(job)
	if err != nil {
		return beginning{}, err
	}
	if ckpt == nil {
		lanes, err := c.Lanes(job.World)
		return beginning{lanes: lanes}, mark(ErrInput, err)
	}
	if err := resumable(job, ckpt); err != nil {
		return beginning{}, mark(ErrInput, err)
	}
	return beginning{step: ckpt.State.Step, lanes: ckpt.State.Lanes, checkpoint: ckpt}, nil
}

func sharedDecision(job *Job) (*checkpoint.Checkpoint, error) {
	if job.Rank != 0 {
		path, err := job.Store.Get(beginKey, time.Duration(job.Config.DDPTimeoutSeconds)*time.Second)
		if err != nil {
			return nil, mark(ErrPeer, fmt.Errorf("wait for rank 0 to choose the start: %w", err))
		}
		if len(path) == 0 {
			return nil, nil
		}
		ckpt, err := checkpoint.Load(string(path))
		return ckpt, mark(ErrInput, err)
	}
	ckpt, err := decide(job)
	if err != nil {
		return nil, mark(ErrInput, err)
	}
	path := ""
	if ckpt != nil {
		path = ckpt.Path
	}
	if job.World > 1 {
		if err := job.Store.Set(beginKey, []byte(path)); err != nil {
			return nil, err
		}
	}
	return ckpt, nil
}

func decide(job *Job) (*checkpoint.Checkpoint, error) {
	dir := job.Config.OutputDir
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	if err := checkpoint.Clean(dir, job.Generation); err != nil {
		return nil, err
	}
	d, err := checkpoint.Decide(dir, job.Config.ResumeFromCheckpoint, job.Config.OverwriteOutputDir)
	if err != nil {
		return nil, err
	}
	for _, broken := range d.Broken {
		job.Log.Warn().Err(broken).Msg("passed over a checkpoint")
	}
	if d.Clear {
		job.Log.Info().Str("output_dir", dir).Msg("deleting the run that is there, as overwrite_output_dir says")
		return nil, checkpoint.Clear(dir, job.Generation)
	}
	return d.Resume, nil
}

// resumable refuses a checkpoint that this configuration would not continue, and says what it means where it would.
func resumable(job *Job, ckpt *checkpoint.Checkpoint) error {
	state := ckpt.State
	differences, err := job.Config.Differences(state.Config)
	if err != nil {
		return fmt.Errorf("checkpoint %s: %w", ckpt.Path, err)
	}
	var refused []string
	for _, d := range differences {
		if !d.Allowed {
			refused = append(refused, fmt.Sprintf("%s: %s then, %s now", d.Key, d.Old, d.New))
		} else if job.Rank == 0 {
			job.Log.Info().Str("key", d.Key).Str("then", d.Old).Str("now", d.New).Msg("changed since the checkpoint")
			if d.Key == "num_train_epochs" || d.Key == "max_steps" {
				job.Log.Info().Msg("the learning-rate schedule is computed again for the new length")
			}
		}
	}
	if state.ShardsDigest != job.Train.Digest() {
		refused = append(refused, "data: the text, the tokenizer or what a sample is has changed")
	}
	if len(refused) > 0 {
		return fmt.Errorf("cannot go on from %s: %s; set the earlier values, choose another output_dir, or begin anew with "+
			"resume_from_checkpoint: none and overwrite_output_dir: true", ckpt.Path, strings.Join(refused, "; "))
	}
	if job.World > state.Lanes {
		return fmt.Errorf("cannot go on from %s with %d ranks: its batch has %d lanes, so at most as many ranks", ckpt.Path, job.World, state.Lanes)
	}
	if job.Rank == 0 {
		job.Log.Info().Str("checkpoint", ckpt.Path).Int64("step", state.Step).Msg("resuming")
		for _, d := range state.Environment.Differences(job.environment()) {
			job.Log.Warn().Str("difference", d).Msg("the continuation is exact in samples and draws, but not bit for bit")
		}
	}
	return nil
}

func (job *Job) environment() checkpoint.Environment {
	return checkpoint.Environment{Ranks: job.World, Threads: job.Threads, Device: "cpu", Libtorch: torch.Version()}
}

// loadCheckpoint fills parameters and moments and returns AdamW's count of steps.
func (r *rank) loadCheckpoint(ckpt *checkpoint.Checkpoint) (steps int64, err error) {
	weights, err := ckpt.Model()
	if err != nil {
		return 0, err
	}
	defer weights.Close()
	moments, err := ckpt.Optimizer()
	if err != nil {
		return 0, err
	}
	defer moments.Close()
	fill := func(s ddp.State) error {
		value, ok1 := weights.Tensor(s.Name)
		m, ok2 := moments.Tensor(s.Name + expAvgSuffix)
		v, ok3 := moments.Tensor(s.Name + expAvgSqSuffix)
		if !ok1 || !ok2 || !ok3 {
			return fmt.Errorf("checkpoint %s lacks %s or its moments", ckpt.Path, s.Name)
		}
		return errors.Join(value.AsFloat32(s.Value), m.AsFloat32(s.ExpAvg), v.AsFloat32(s.ExpAvgSq))
	}
	for _, s := range r.params.States() {
		if err := fill(s); err != nil {
			return 0, err
		}
	}
	return ckpt.State.OptimizerSteps, nil
}
