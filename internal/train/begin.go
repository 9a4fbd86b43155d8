package train

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/checkpoint"
	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/internal/torch"
)

// beginning is where a run starts.
type beginning struct {
	step       int64
	lanes      int
	checkpoint *checkpoint.Checkpoint // nil: from the model
}

// history is the records of the run so far.
func (b beginning) history() []map[string]any {
	if b.checkpoint == nil {
		return nil
	}
	return b.checkpoint.Trainer.LogHistory
}

// evaluated tells whether the evaluation after the step of the beginning is among the records: it is not where a request to stop has cut it short.
func (b beginning) evaluated() bool {
	for _, entry := range b.history() {
		if step, ok := entry["step"].(float64); ok && int64(step) == b.step && entry["eval_runtime"] != nil {
			return true
		}
	}
	return false
}

// beginKey is where rank 0 tells the others which checkpoint they start from; empty: none.
const beginKey = "train/begin"

// begin decides where the run starts. Rank 0 decides and tidies the output directory; the others follow.
func begin(ctx context.Context, job *Job) (beginning, error) {
	var ckpt *checkpoint.Checkpoint
	var err error
	if job.Rank == 0 {
		ckpt, err = decide(ctx, job)
	} else {
		ckpt, err = followRank0(ctx, job)
	}
	if err != nil {
		return beginning{}, err
	}
	if ckpt == nil {
		lanes, err := job.Config.ElasticLanes(job.least(), job.most())
		if err != nil {
			return beginning{}, mark(ErrInput, err)
		}
		return beginning{lanes: lanes}, job.claimStart(0)
	}
	differences, err := resumable(job.Config, job.least(), job.Train.Digest(), ckpt)
	if err != nil {
		return beginning{}, mark(ErrInput, err)
	}
	job.reportResume(ckpt, differences)
	return beginning{step: ckpt.State.Step, lanes: ckpt.State.Lanes, checkpoint: ckpt}, job.claimStart(ckpt.State.Step)
}

// claimStart says on rank 0 from where this generation goes on, before it writes anything: what earlier ones come to write later counts no more.
func (job *Job) claimStart(step int64) error {
	if job.Rank != 0 {
		return nil
	}
	return markOvertaken(checkpoint.Begin(job.Config.OutputDir, job.Generation, step, job.run()))
}

// run is whose generation this is.
func (job *Job) run() checkpoint.Run {
	run := checkpoint.Run{ID: job.RunID}
	for _, n := range job.Nodes {
		run.Agents = append(run.Agents, n.ID)
	}
	return run
}

// decide chooses the start on rank 0 and tells the other ranks.
func decide(ctx context.Context, job *Job) (*checkpoint.Checkpoint, error) {
	dir := job.Config.OutputDir
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	d, refused, err := checkpoint.Settle(ctx, dir, job.Generation, job.Config.ResumeFromCheckpoint, job.Config.OverwriteOutputDir, job.run())
	if err != nil {
		return nil, markOvertaken(err)
	}
	if refused != nil {
		return nil, mark(ErrInput, refused)
	}
	for _, broken := range d.Broken {
		job.Log.Warn().Err(broken).Msg("passed over a checkpoint")
	}
	if len(d.Left) > 0 {
		job.Log.Warn().Strs("checkpoints", d.Left).Msg("left aside: an earlier generation wrote them after a later one had begun before their steps")
	}
	if d.Clear {
		job.Log.Info().Str("output_dir", dir).Msg("deleting the run that is there, as overwrite_output_dir says")
		if err := job.claimStart(0); err != nil {
			return nil, err
		}
		if err := checkpoint.Clear(dir, job.Generation); err != nil {
			return nil, markOvertaken(err)
		}
	}
	if job.World == 1 {
		return d.Resume, nil
	}
	path := ""
	if d.Resume != nil {
		path = d.Resume.Path
	}
	return d.Resume, job.Store.Set(beginKey, []byte(path))
}

// markOvertaken marks the failure to write of a generation that others have overtaken: they are the cause, and go on.
func markOvertaken(err error) error {
	if errors.Is(err, checkpoint.ErrSuperseded) {
		return mark(ErrPeer, err)
	}
	return err
}

// markWrite marks why something was not written: starting again would fail the same way, unless others have overtaken this generation.
func markWrite(err error) error {
	if errors.Is(err, checkpoint.ErrSuperseded) {
		return mark(ErrPeer, err)
	}
	return mark(ErrPermanent, err)
}

// followRank0 waits for rank 0's choice.
func followRank0(ctx context.Context, job *Job) (*checkpoint.Checkpoint, error) {
	path, err := await(ctx, job.Store, beginKey, time.Duration(job.Config.DDPTimeoutSeconds)*time.Second)
	if err != nil {
		return nil, mark(ErrPeer, fmt.Errorf("wait for rank 0 to choose the start: %w", err))
	}
	if len(path) == 0 {
		return nil, nil
	}
	return checkpoint.Load(ctx, string(path)) // rank 0 has read it: an error is of this node's view of a shared file system, and may pass
}

// reportResume says on rank 0 from where the run goes on and what is different.
func (job *Job) reportResume(ckpt *checkpoint.Checkpoint, differences []config.Difference) {
	if job.Rank != 0 {
		return
	}
	job.Log.Info().Str("checkpoint", ckpt.Path).Int64("step", ckpt.State.Step).Msg("resuming")
	for _, d := range differences {
		job.Log.Info().Str("key", d.Key).Str("then", d.Old).Str("now", d.New).Msg("changed since the checkpoint")
		if d.Key == "num_train_epochs" || d.Key == "max_steps" {
			job.Log.Info().Msg("the learning-rate schedule is computed again for the new length")
		}
	}
	for _, d := range ckpt.State.Environment.Differences(job.environment()) {
		job.Log.Warn().Str("difference", d).Msg("the continuation is exact in samples and draws, but not bit for bit")
	}
}

func (job *Job) environment() checkpoint.Environment {
	return checkpoint.Environment{Ranks: job.World, Threads: job.Threads, Device: job.place.name(), Libtorch: torch.Version()}
}

// loadCheckpoint fills parameters and moments and returns AdamW's count of steps. The end of ctx ends it, with its cause.
func (r *rank) loadCheckpoint(ctx context.Context, ckpt *checkpoint.Checkpoint) (steps int64, err error) {
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
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		value, ok1 := weights.Tensor(s.Name)
		if ok1 && s.Frozen {
			return value.AsFloat32(s.Value)
		}
		m, ok2 := moments.Tensor(s.Name + expAvgSuffix)
		v, ok3 := moments.Tensor(s.Name + expAvgSqSuffix)
		if !ok1 || !ok2 || !ok3 {
			return fmt.Errorf("checkpoint %s lacks %s or its moments", ckpt.Path, s.Name)
		}
		return errors.Join(value.AsFloat32(s.Value), m.AsFloat32(s.ExpAvg), v.AsFloat32(s.ExpAvgSq))
	}
	return ckpt.State.OptimizerSteps, r.params.Fill(fill)
}
