package train

import (
	"context"
	"encoding/json"
	"math"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/checkpoint"
	"github.com/ddprun/ddprun/internal/hf"
)

// AdamW's moments of a parameter lie in optimizer.safetensors under its name with these suffixes, as PyTorch names them.
const (
	expAvgSuffix   = ".exp_avg"
	expAvgSqSuffix = ".exp_avg_sq"
)

// saver writes checkpoints; only rank 0 has one. The loop copies parameters and moments, and goes on while they are written.
type saver struct {
	r      *rank
	plan   *plan
	writer *checkpoint.Writer
	done   atomic.Int64 // step of the last complete checkpoint
	states []ddp.State  // the copy that is written
}

func newSaver(ctx context.Context, r *rank, p *plan, done int64) *saver {
	s := &saver{r: r, plan: p}
	s.done.Store(done)
	c := r.job.Config
	s.writer = checkpoint.NewWriter(ctx, func(ctx context.Context, snap checkpoint.Snapshot) error {
		confirm := func(context.Context) error { return r.job.mayWrite() }
		if err := checkpoint.Save(ctx, checkpoint.SaveConfig{OutputDir: c.OutputDir, Confirm: confirm}, snap); err != nil {
			return err
		}
		s.done.Store(snap.State.Step)
		r.job.Log.Info().Int64("step", snap.State.Step).Msg("checkpoint saved")
		if c.SaveTotalLimit == 0 {
			return nil
		}
		var keep []string
		if best := snap.Trainer.BestModelCheckpoint; best != nil && c.LoadBestModelAtEnd {
			keep = append(keep, *best)
		}
		return checkpoint.Prune(c.OutputDir, c.SaveTotalLimit, r.job.Generation, keep...)
	})
	return s
}

// start copies the state after step steps and tokens tokens, and begins to write it. Every rank is known to have finished the step's
// all-reduce. A step that is saved already is not saved again.
func (s *saver) start(step, tokens int64, history []map[string]any) error {
	if err := s.writer.Wait(); err != nil {
		return err
	}
	if s.done.Load() == step && step > 0 {
		return nil
	}
	s.states = s.r.params.Copy(s.states)
	var optimizer []hf.Tensor
	var model []hf.Tensor
	for _, state := range s.states {
		model = append(model, tensorOf(state.Param, "", state.Value))
		if !state.Frozen {
			optimizer = append(optimizer, tensorOf(state.Param, expAvgSuffix, state.ExpAvg), tensorOf(state.Param, expAvgSqSuffix, state.ExpAvgSq))
		}
	}
	state, err := s.state(step)
	if err != nil {
		return err
	}
	return s.writer.Start(checkpoint.Snapshot{Model: s.model(model), Optimizer: optimizer,
		Trainer: s.trainerState(step, tokens, history), State: state})
}

// takeBest puts the best checkpoint's parameters into the model, where the configuration wants that and it is not that of this step. One that somebody
// has deleted is passed over with a warning, as Trainer does.
func (s *saver) takeBest(ctx context.Context, step int64) error {
	kept := s.r.best.kept
	if !s.r.job.Config.LoadBestModelAtEnd || kept == nil {
		return nil
	}
	log := s.r.job.Log.With().Int64("step", kept.step).Float64(s.r.best.key, kept.value).Logger()
	if kept.step == step {
		log.Info().Msg("the last model is the best one")
		return nil
	}
	if err := s.writer.Wait(); err != nil {
		return markWrite(err)
	}
	ckpt, err := checkpoint.Load(ctx, s.checkpointPath(kept.step))
	if err != nil {
		log.Warn().Err(err).Msg("the best checkpoint cannot be read: the last model is saved instead")
		return nil
	}
	if _, err := s.r.loadCheckpoint(ctx, ckpt); err != nil {
		return mark(ErrPermanent, err)
	}
	log.Info().Msg("the best model is loaded")
	return nil
}

func (s *saver) checkpointPath(step int64) string {
	return filepath.Join(s.r.job.Config.OutputDir, checkpoint.Name(step))
}

// saveModel writes the parameters as they are into output_dir itself.
func (s *saver) saveModel(ctx context.Context) error {
	if err := s.writer.Wait(); err != nil {
		return err
	}
	var states []ddp.State
	if s.r.params.OnDevice() {
		states = s.r.params.Copy(nil)
	} else {
		states = s.r.params.States()
	}
	var model []hf.Tensor
	for _, state := range states {
		model = append(model, tensorOf(state.Param, "", state.Value))
	}
	if err := s.r.job.mayWrite(); err != nil {
		return err
	}
	return checkpoint.SaveModel(ctx, s.r.job.Config.OutputDir, s.r.job.Generation, s.model(model))
}

// model is the model directory to write: the configuration that was read, with the class and the type of the weights set.
func (s *saver) model(tensors []hf.Tensor) checkpoint.Model {
	cfg := s.r.config.Clone()
	dtype := "dtype"
	if _, old := cfg.Raw("torch_dtype"); old {
		dtype = "torch_dtype"
	}
	for key, value := range map[string]any{"architectures": []string{s.r.model.Architecture()}, dtype: "float32"} {
		if err := cfg.Set(key, value); err != nil {
			panic(err) // both are valid JSON
		}
	}
	return checkpoint.Model{Tensors: tensors, Config: cfg, Extras: s.r.job.Config.Model}
}

func (s *saver) state(step int64) (checkpoint.State, error) {
	job := s.r.job
	c := job.Config
	resolved, err := json.Marshal(c.Resolved())
	if err != nil {
		return checkpoint.State{}, err
	}
	epoch, epochStep := s.plan.at(step)
	return checkpoint.State{Step: step, Epoch: epoch, EpochStep: epochStep, Lanes: s.plan.lanes,
		Seeds: checkpoint.Seeds{Seed: c.Seed, Data: c.DataSeed, Eval: c.EvalSeed}, Generation: job.Generation,
		Environment: job.environment(), ShardsDigest: job.Train.Digest(), PlanDigest: s.plan.planDigest(step), OptimizerSteps: s.r.opt.Steps(), Config: resolved}, nil
}

func (s *saver) trainerState(step, tokens int64, history []map[string]any) checkpoint.TrainerState {
	c := s.r.job.Config
	state := checkpoint.TrainerState{Epoch: s.plan.epochs(step), GlobalStep: step, MaxSteps: s.plan.total, LogHistory: history,
		NumInputTokensSeen: tokens, EvalSteps: s.plan.interval(s.plan.evalSteps), LoggingSteps: s.plan.loggingSteps, SaveSteps: s.plan.interval(s.plan.saveSteps),
		NumTrainEpochs: int64(math.Ceil(s.plan.epochs(s.plan.total))), TrainBatchSize: int64(c.PerDeviceTrainBatchSize)}
	if kept := s.r.best.kept; kept != nil {
		path := s.checkpointPath(kept.step)
		state.BestGlobalStep, state.BestMetric, state.BestModelCheckpoint = &kept.step, &kept.value, &path
	}
	return state
}

func tensorOf(p ddp.Param, suffix string, data []float32) hf.Tensor {
	return hf.Tensor{Name: p.Name + suffix, DType: hf.F32, Shape: p.Shape, Data: bytesOf(data)}
}

// bytesOf views numbers as the little-endian bytes that they are on every machine that libtorch's wheel runs on.
func bytesOf(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}
