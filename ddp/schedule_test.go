package ddp

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"
)

// goldenSchedule is what transformers' get_scheduler gives; lr is the rate of each step for a peak of 1.
type goldenSchedule struct {
	Name   string `json:"name"`
	Kwargs struct {
		NumCycles      *float64 `json:"num_cycles"`
		MinLRRatio     float64  `json:"min_lr_ratio"`
		NumDecaySteps  int64    `json:"num_decay_steps"`
		NumStableSteps *int64   `json:"num_stable_steps"`
		WarmupType     string   `json:"warmup_type"`
		DecayType      string   `json:"decay_type"`
	} `json:"kwargs"`
	Steps       int64     `json:"steps"`
	WarmupSteps int64     `json:"warmup_steps"`
	LR          []float64 `json:"lr"`
}

func (g *goldenSchedule) schedule() Schedule {
	k := g.Kwargs
	s := Schedule{Type: g.Name, WarmupSteps: g.WarmupSteps, TotalSteps: g.Steps, NumCycles: 0.5, MinLRRatio: k.MinLRRatio,
		StableSteps: -1, DecaySteps: k.NumDecaySteps, WarmupType: "linear", DecayType: "cosine"}
	if k.NumCycles != nil {
		s.NumCycles = *k.NumCycles
	}
	if k.NumStableSteps != nil {
		s.StableSteps = *k.NumStableSteps
	}
	if k.WarmupType != "" {
		s.WarmupType = k.WarmupType
	}
	if k.DecayType != "" {
		s.DecayType = k.DecayType
	}
	return s
}

func TestScheduleEqualsTransformers(t *testing.T) {
	raw, err := os.ReadFile("testdata/schedules.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden []goldenSchedule
	if err := json.Unmarshal(raw, &golden); err != nil {
		t.Fatal(err)
	}
	types, values, farthest := map[string]bool{}, 0, 0.0
	for _, g := range golden {
		types[fmt.Sprint(g.Name, g.Kwargs.WarmupType, g.Kwargs.DecayType, g.Kwargs.NumStableSteps != nil)] = true
		s := g.schedule()
		for step, want := range g.LR {
			got := s.Factor(int64(step))
			// Go's cosine and C's may differ in the last place; the rest is the same arithmetic.
			off := math.Abs(got - want)
			if farthest = max(farthest, off); off > 4e-16 {
				t.Errorf("%+v: step %d: %v, transformers has %v", s, step, got, want)
				break
			}
			values++
		}
	}
	if len(types) < 8 || values < 5000 {
		t.Errorf("the golden file has %d kinds of schedule and %d values: too few to say much", len(types), values)
	}
	t.Logf("%d values of %d schedules, at most %.1e off", values, len(golden), farthest)
}

func TestScheduleRefusesWhatIsNone(t *testing.T) {
	for _, s := range []Schedule{
		{Type: "polynomial"},
		{Type: "warmup_stable_decay", WarmupSteps: 1, DecaySteps: 1, WarmupType: "sqrt"},
		{Type: "warmup_stable_decay", DecaySteps: 1, DecayType: "sqrt"},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v: no panic", s)
				}
			}()
			s.Factor(0)
		}()
	}
}
