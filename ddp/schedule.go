package ddp

import (
	"fmt"
	"math"
)

// Schedule is a learning-rate schedule of transformers' get_scheduler. Steps are counted from 0: Factor(0) is the first step's.
type Schedule struct {
	Type        string // linear, cosine, constant, constant_with_warmup, warmup_stable_decay
	WarmupSteps int64
	TotalSteps  int64
	NumCycles   float64 // cosine and warmup_stable_decay; 0.5 is half a wave
	MinLRRatio  float64 // warmup_stable_decay
	DecaySteps  int64   // warmup_stable_decay
}

// ScheduleTypes are the values of Schedule.Type.
var ScheduleTypes = []string{"linear", "cosine", "constant", "constant_with_warmup", "warmup_stable_decay"}

// Factor returns what the peak learning rate is multiplied with at step.
func (s Schedule) Factor(step int64) float64 {
	warming := step < s.WarmupSteps
	warmup := float64(step) / float64(max(1, s.WarmupSteps))
	switch s.Type {
	case "constant":
		return 1
	case "constant_with_warmup":
		if warming {
			return warmup
		}
		return 1
	case "linear":
		if warming {
			return warmup
		}
		return max(0, float64(s.TotalSteps-step)/float64(max(1, s.TotalSteps-s.WarmupSteps)))
	case "cosine":
		if warming {
			return warmup
		}
		progress := float64(step-s.WarmupSteps) / float64(max(1, s.TotalSteps-s.WarmupSteps))
		return max(0, 0.5*(1+math.Cos(math.Pi*s.NumCycles*2*progress)))
	case "warmup_stable_decay":
		return s.warmupStableDecay(step, warmup)
	}
	panic(fmt.Sprintf("ddp: schedule %q", s.Type))
}

func (s Schedule) warmupStableDecay(step int64, warmup float64) float64 {
	stable := s.TotalSteps - s.WarmupSteps - s.DecaySteps
	switch {
	case step < s.WarmupSteps:
		return warmup*(1-s.MinLRRatio) + s.MinLRRatio
	case step < s.WarmupSteps+stable:
		return 1
	case step < s.WarmupSteps+stable+s.DecaySteps:
		progress := float64(step-s.WarmupSteps-stable) / float64(max(1, s.DecaySteps))
		factor := 0.5 * (1 + math.Cos(math.Pi*s.NumCycles*2*progress))
		return max(0, factor*(1-s.MinLRRatio)+s.MinLRRatio)
	}
	return s.MinLRRatio
}
