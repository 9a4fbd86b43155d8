package train

import (
	"context"
	"fmt"
	"math"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/shard"
)

// plan is the run as arithmetic: what happens at which step.
type plan struct {
	order         *shard.Order
	tokens        *tokenEpochs // nil: micro-batches are cut by samples
	lanes         int
	stepsPerEpoch int64 // by tokens: of the first one
	total         int64 // steps in all
	schedule      ddp.Schedule
	peakLR        float64
	evalSteps     int64 // 0: never, eachEpoch
	saveSteps     int64 // the same
	loggingSteps  int64
}

// eachEpoch is what happens at the end of each epoch, where steps differ from one to the next.
const eachEpoch = -1

// newPlan is the plan of job's run. The caller closes it.
func (job *Job) newPlan(ctx context.Context, lanes int) (*plan, error) {
	c := job.Config
	if c.PerDeviceTrainTokens == 0 {
		return newPlan(c, job.Train.Len(), lanes)
	}
	cfg := orderConfig(c, lanes)
	plans, err := shard.NewTokenPlans(job.Train, cfg, shard.TokenPlanConfig{Dir: job.PlansDir, Budget: c.PerDeviceTrainTokens, Length: job.Objectives.SampleTokens,
		Waiting: func() { job.Log.Info().Msg("another process plans the micro-batches: waiting") }})
	if err != nil {
		return nil, err
	}
	cfg.Samples, cfg.BatchSize, cfg.DropLast = job.Train.Len(), 1, false
	order, err := shard.NewOrder(cfg)
	if err != nil {
		return nil, err
	}
	p := &plan{order: order, lanes: lanes, tokens: &tokenEpochs{plans: plans}, peakLR: c.LearningRate}
	if err := p.measure(ctx, c); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// measure plans as many epochs as the length of the run must be known from.
func (p *plan) measure(ctx context.Context, c *config.Config) (err error) {
	if p.stepsPerEpoch, err = p.tokens.planned(ctx, 0); err != nil {
		return err
	}
	if p.total = c.MaxSteps; p.total <= 0 {
		whole, part := math.Modf(c.NumTrainEpochs)
		if whole > 0 {
			if p.total, err = p.tokens.planned(ctx, int64(whole)-1); err != nil {
				return err
			}
		}
		p.total = max(p.total, 0)
		if part > 0 {
			end, err := p.tokens.planned(ctx, int64(whole))
			if err != nil {
				return err
			}
			p.total += int64(math.Ceil(part * float64(end-p.total)))
		}
	}
	return p.settle(c)
}

func (p *plan) close() {
	if p.tokens != nil {
		p.tokens.close()
	}
}

func orderConfig(c *config.Config, lanes int) shard.OrderConfig {
	return shard.OrderConfig{Lanes: lanes, BatchSize: c.PerDeviceTrainBatchSize, Seed: uint64(c.DataSeed), Shuffle: c.DataOrder != "corpus",
		DropLast: c.DataloaderDropLast}
}

func newPlan(c *config.Config, samples int64, lanes int) (*plan, error) {
	cfg := orderConfig(c, lanes)
	cfg.Samples = samples
	order, err := shard.NewOrder(cfg)
	if err != nil {
		return nil, err
	}
	p := &plan{order: order, lanes: lanes, stepsPerEpoch: order.StepsPerEpoch(), peakLR: c.LearningRate}
	if p.stepsPerEpoch == 0 {
		return nil, fmt.Errorf("data: %d samples give no full step of %d lanes x %d samples; with dataloader_drop_last: false they would be used",
			samples, lanes, c.PerDeviceTrainBatchSize)
	}
	if p.total = c.MaxSteps; p.total <= 0 {
		p.total = int64(math.Ceil(c.NumTrainEpochs * float64(p.stepsPerEpoch)))
	}
	return p, p.settle(c)
}

// settle fills in what follows from the number of steps.
func (p *plan) settle(c *config.Config) error {
	k := c.LRSchedulerKwargs
	p.schedule = ddp.Schedule{Type: c.LRSchedulerType, WarmupSteps: config.Steps(c.WarmupSteps, p.total), TotalSteps: p.total,
		NumCycles: k.NumCycles, MinLRRatio: k.MinLRRatio, StableSteps: k.NumStableSteps, DecaySteps: k.NumDecaySteps,
		WarmupType: k.WarmupType, DecayType: k.DecayType}
	p.loggingSteps = max(1, config.Steps(c.LoggingSteps, p.total))
	p.evalSteps = p.every(c.EvalStrategy, c.EvalSteps)
	p.saveSteps = p.every(c.SaveStrategy, c.SaveSteps)
	if c.LoadBestModelAtEnd && p.evalSteps > 0 && p.saveSteps%p.evalSteps != 0 {
		return fmt.Errorf("load_best_model_at_end: checkpoints are written every %d steps, which is no multiple of the %d between evaluations; "+
			"set save_steps to eval_steps", p.saveSteps, p.evalSteps)
	}
	return nil
}

// every is the number of steps between what a strategy and its steps say; 0: never.
func (p *plan) every(strategy string, steps float64) int64 {
	switch strategy {
	case "steps":
		return max(1, config.Steps(steps, p.total))
	case "epoch":
		if p.tokens != nil {
			return eachEpoch
		}
		return p.stepsPerEpoch
	}
	return 0
}

// interval is every as trainer_state.json wants it: a number of steps.
func (p *plan) interval(every int64) int64 {
	if every == eachEpoch {
		return p.stepsPerEpoch
	}
	return every
}

// learningRate is that of the step after step steps are done.
func (p *plan) learningRate(step int64) float64 { return p.peakLR * p.schedule.Factor(step) }

// at splits steps done into whole epochs and steps of the next one.
func (p *plan) at(step int64) (epoch, epochStep int64) {
	if p.tokens != nil {
		epoch, epochStep, _ = p.tokens.at(step)
		return epoch, epochStep
	}
	return step / p.stepsPerEpoch, step % p.stepsPerEpoch
}

// epochs is the position after step steps as a number of epochs.
func (p *plan) epochs(step int64) float64 {
	if p.tokens == nil {
		return float64(step) / float64(p.stepsPerEpoch)
	}
	epoch, epochStep, t := p.tokens.at(step)
	steps := p.stepsPerEpoch // of an epoch that is not planned yet, about
	if t != nil {
		steps = t.Steps()
	}
	return float64(epoch) + float64(epochStep)/float64(steps)
}

// microBatch returns the samples that a lane takes in the step after step steps, in dst, and where in the lane they begin.
func (p *plan) microBatch(step int64, lane int, dst []int64) (samples []int64, from int64, err error) {
	if p.tokens == nil {
		epoch, epochStep := p.at(step)
		dst = p.order.MicroBatch(epoch, epochStep, lane, dst)
		return dst, epochStep * p.order.BatchSize(), nil
	}
	epoch, epochStep, t := p.tokens.at(step)
	from, to, err := t.Bounds(lane, epochStep)
	if err != nil {
		return nil, 0, err
	}
	return p.order.Lane(epoch, lane, from, to, dst), from, nil
}

// due tells whether something that happens every so many steps, and at the end, happens after step steps.
func (p *plan) due(step, every int64) bool {
	if every == eachEpoch {
		return p.tokens.ended(step) || step == p.total
	}
	return every > 0 && (step%every == 0 || step == p.total)
}
