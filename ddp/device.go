package ddp

import "github.com/ddprun/ddprun/internal/torch"

// deviceState is what an optimizer keeps beside the gradients of a GPU, so that the host need not know what becomes of a step before it goes on.
type deviceState struct {
	params   *Params
	learning []int          // the parameters that learn
	grads    []torch.Tensor // theirs
	streak   torch.Tensor   // steps in a row whose gradient was not finite
	steps    torch.Tensor   // that were done
}

// begin makes the counts, at the first step.
func (d *deviceState) begin(s *torch.Scope, steps int64) error {
	d.streak = s.Move(s.DeviceZeros(torch.Float64))
	d.steps = s.Move(s.DeviceZeros(torch.Float32)) // as AdamW wants it: exact up to 2^24 steps
	return d.steps.Fill(func(x []float32) error {
		x[0] = float32(steps)
		return nil
	})
}

func (d *deviceState) done() int64 {
	var steps [1]float32
	d.steps.ReadFloat32s(steps[:])
	return int64(steps[0])
}

func (d *deviceState) close() {
	d.streak.Free()
	d.steps.Free()
	d.streak, d.steps = torch.Tensor{}, torch.Tensor{}
}

// Verdict is what has become of a step.
type Verdict struct {
	GradNorm float64 // before clipping
	Skipped  bool    // nothing was changed
	Streak   int     // steps in a row, up to this one, whose gradient was not finite
	FirstBad string  // the first parameter with a gradient that is not finite, or ""
	Steps    int64   // that the optimizer has done
}

// VerdictNumbers is the length of the vector that [Optimizer.StepOnDevice] returns.
const VerdictNumbers = 5

// StepOnDevice clips the gradients to maxGradNorm (0: not) and updates the parameters, without anybody waiting for what is computed: it returns the verdict as a vector of
// the device, Float64 [VerdictNumbers], to be fetched and given to [Optimizer.Verdict] later. A step whose gradient is not finite changes nothing; after maxNonfinite of them in a row
// (0: any number) no later step does, however late the host sees it.
func (o *Optimizer) StepOnDevice(s *torch.Scope, learningRate, maxGradNorm float64, maxNonfinite int) (torch.Tensor, error) {
	d := &o.device
	if !d.steps.Defined() {
		if err := d.begin(s, o.step); err != nil {
			return torch.Tensor{}, err
		}
	}
	j := s.Judge(d.grads, d.streak, d.steps, maxGradNorm, maxNonfinite)
	for _, g := range o.groups {
		if err := torch.FusedAdamWJudged(g.params, g.grads, g.expAvgs, g.expAvgSqs, d.steps, j, o.settings(g, learningRate)); err != nil {
			return torch.Tensor{}, err
		}
	}
	return j.Verdict, nil
}

// Verdict reads what [Optimizer.StepOnDevice] returned.
func (o *Optimizer) Verdict(numbers []float64) Verdict {
	v := Verdict{GradNorm: numbers[0], Skipped: numbers[1] != 0, Streak: int(numbers[2]), Steps: int64(numbers[4])}
	if first := int(numbers[3]); first >= 0 {
		v.FirstBad = o.device.params.list[o.device.learning[first]].Name
	}
	return v
}
