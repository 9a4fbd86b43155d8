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
	NumCycles   float64 // cosine, and warmup_stable_decay where DecayType is cosine; 0.5 is half a wave

	// The rest is of warmup_stable_decay alone.

	MinLRRatio  float64
	StableSteps int64 // below 0: what warm-up and decay leave of TotalSteps
	DecaySteps  int64
	WarmupType  string // linear, cosine, 1-sqrt
	DecayType   string // linear, cosine, 1-sqrt
}

// Factor returns what the peak learning rate is multiplied with at step. It panics on a type that is none of the above.
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
		return max(0, cosineWave(s.NumCycles, progress))
	case "warmup_stable_decay":
		return s.warmupStableDecay(step, warmup)
	}
	panic(fmt.Sprintf("ddp: schedule %q", s.Type))
}

func (s Schedule) warmupStableDecay(step int64, warmup float64) float64 {
	decayStart := s.TotalSteps - s.DecaySteps
	if s.StableSteps >= 0 {
		decayStart = s.WarmupSteps + s.StableSteps
	}
	var factor float64
	switch {
	case step < s.WarmupSteps:
		factor = rise(s.WarmupType, warmup)
	case step < decayStart:
		return 1
	case step < decayStart+s.DecaySteps:
		factor = s.fall(float64(step-decayStart) / float64(max(1, s.DecaySteps)))
	default:
		return s.MinLRRatio
	}
	return max(0, factor*(1-s.MinLRRatio)+s.MinLRRatio)
}

// rise is the course of a warm-up: from 0 to 1.
func rise(kind string, progress float64) float64 {
	switch kind {
	case "linear":
		return progress
	case "cosine":
		return 0.5 * (1 - math.Cos(math.Pi*progress))
	case "1-sqrt":
		return 1 - math.Sqrt(1-progress)
	}
	panic(fmt.Sprintf("ddp: warm-up %q", kind))
}

// fall is the course of a decay: from 1, and where the wave is not cut otherwise, to 0.
func (s Schedule) fall(progress float64) float64 {
	switch s.DecayType {
	case "linear":
		return 1 - progress
	case "cosine":
		return cosineWave(s.NumCycles, progress)
	case "1-sqrt":
		return 1 - math.Sqrt(progress)
	}
	panic(fmt.Sprintf("ddp: decay %q", s.DecayType))
}

func cosineWave(cycles, progress float64) float64 {
	return 0.5 * (1 + math.Cos(math.Pi*cycles*2*progress))
}
