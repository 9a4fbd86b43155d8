package train

import (
	"fmt"
	"math"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/shard"
)

// plan is the run as arithmetic: what happens at which step.
type plan struct {
	order         *shard.Order
	lanes         int
	stepsPerEpoch int64
	total         int64 // steps in all
	schedule      ddp.Schedule
	peakLR        float64
	evalSteps     int64 // 0: never
	saveSteps     int64 // 0: never
	loggingSteps  int64
}

func newPlan(c *config.Config, samples int64, lanes int) (*plan, error) {
	order, err := shard.NewOrder(shard.OrderConfig{Samples: samples, Lanes: lanes, BatchSize: c.PerDeviceTrainBatchSize,
		Seed: uint64(c.DataSeed), Shuffle: c.DataOrder != "corpus", DropLast: c.DataloaderDropLast})
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
	k := c.LRSchedulerKwargs
	p.schedule = ddp.Schedule{Type: c.LRSchedulerType, WarmupSteps: config.Steps(c.WarmupSteps, p.total), TotalSteps: p.total,
		NumCycles: k.NumCycles, MinLRRatio: k.MinLRRatio, StableSteps: k.NumStableSteps, DecaySteps: k.NumDecaySteps,
		WarmupType: k.WarmupType, DecayType: k.DecayType}
	p.loggingSteps = max(1, config.Steps(c.LoggingSteps, p.total))
	p.evalSteps = p.every(c.EvalStrategy, c.EvalSteps)
	p.saveSteps = p.every(c.SaveStrategy, c.SaveSteps)
	if c.LoadBestModelAtEnd && p.evalSteps > 0 && p.saveSteps%p.evalSteps != 0 {
		return nil, fmt.Errorf("load_best_model_at_end: checkpoints are written every %d steps, which is no multiple of the %d between evaluations; "+
			"set save_steps to eval_steps", p.saveSteps, p.evalSteps)
	}
	return p, nil
}

// every is the number of steps between what a strategy and its steps say; 0: never.
func (p *plan) every(strategy string, steps float64) int64 {
	switch strategy {
	case "steps":
		return max(1, config.Steps(steps, p.total))
	case "epoch":
		return p.stepsPerEpoch
	}
	return 0
}

// learningRate is that of the step after step steps are done.
func (p *plan) learningRate(step int64) float64 { return p.peakLR * p.schedule.Factor(step) }

// at splits steps done into whole epochs and steps of the next one.
func (p *plan) at(step int64) (epoch, epochStep int64) {
	return step / p.stepsPerEpoch, step % p.stepsPerEpoch
}

// epochs is the position after step steps as a number of epochs.
func (p *plan) epochs(step int64) float64 { return float64(step) / float64(p.stepsPerEpoch) }

// due tells whether something that happens every so many steps, and at the end, happens after step steps.
func (p *plan) due(step, every int64) bool { return every > 0 && (step%every == 0 || step == p.total) }
