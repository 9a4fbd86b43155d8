package main

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/ddprun/ddprun/launch"
)

// limitFlag is a time-out for a rank that seems to do nothing.
type limitFlag struct {
	name, usage string
	of          func(*launch.Limits) *time.Duration
}

var limitFlags = []limitFlag{
	{"silence-timeout", "a rank has failed that gives no sign of life for so `long`, or is stopped for 3s (0: never)",
		func(l *launch.Limits) *time.Duration { return &l.Silence }},
	{"setup-timeout", "a rank has failed that makes no progress in its set-up for so `long` (0: never)",
		func(l *launch.Limits) *time.Duration { return &l.Setup }},
	{"step-timeout", "the same in a step: no micro-batch done for so `long`, without waiting for other ranks",
		func(l *launch.Limits) *time.Duration { return &l.Step }},
	{"eval-timeout", "the same in an evaluation, for so `long`",
		func(l *launch.Limits) *time.Duration { return &l.Eval }},
	{"checkpoint-timeout", "the same while a checkpoint is saved, for so `long`",
		func(l *launch.Limits) *time.Duration { return &l.Checkpoint }},
}

func (o *trainOptions) addLimits(flags *pflag.FlagSet) {
	o.limits = launch.DefaultLimits
	for _, f := range limitFlags {
		value := f.of(&o.limits)
		flags.DurationVar(value, f.name, *value, f.usage)
	}
}

func (o *trainOptions) checkLimits() error {
	for _, f := range limitFlags {
		if limit := *f.of(&o.limits); limit < 0 {
			return fmt.Errorf("--%s: must be at least 0, got %v", f.name, limit)
		}
	}
	return nil
}

// checkDebugRanks refuses a rank that there is not.
func checkDebugRanks(debug []int, ranks int) error {
	for _, rank := range debug {
		if rank < 0 || rank >= ranks {
			return fmt.Errorf("--debug-rank: there are ranks 0 to %d, got %d", ranks-1, rank)
		}
	}
	return nil
}
