package config

import (
	"fmt"
	"math"
)

// Steps turns an interval such as save_steps into steps: a value of 1 or more is the number itself, one below 1 is a share of
// all the run's steps, rounded up as Trainer does. 0 stays 0.
func Steps(value float64, total int64) int64 {
	if value >= 1 {
		return int64(value)
	}
	return int64(math.Ceil(value * float64(total)))
}

// Lanes returns the number of parallel sequences of samples (DESIGN 3) in a run of world ranks. More ranks than
// lanes is an error, since the ranks beyond would never have work.
func (c *Config) Lanes(world int) (int, error) { return c.ElasticLanes(world, world) }

// ElasticLanes returns the same for a run whose number of ranks may be from least to most. Where there are more ranks than lanes the ranks beyond stand by; it
// is an error where least is more already.
func (c *Config) ElasticLanes(least, most int) (int, error) {
	if least < 1 || most < least {
		return 0, fmt.Errorf("the number of ranks must be at least 1, got %d to %d", least, most)
	}
	key, global, batch, one := "global_batch_size", c.GlobalBatchSize, c.PerDeviceTrainBatchSize, "per_device_train_batch_size"
	if c.PerDeviceTrainTokens > 0 {
		key, global, batch, one = "global_batch_tokens", c.GlobalBatchTokens, c.PerDeviceTrainTokens, "per_device_train_tokens"
	}
	if global == 0 {
		return most * c.GradientAccumulationSteps, nil
	}
	lanes := global / batch
	if least > lanes {
		return 0, fmt.Errorf("%s: %d is %d micro-batches of %d, which %d ranks cannot share; use at most %d ranks, a smaller %s or a larger %s",
			key, global, lanes, batch, least, lanes, one, key)
	}
	return lanes, nil
}
