package ddp

import (
	"regexp"
	"strings"

	"github.com/ddprun/ddprun/internal/torch"
)

// AdamWConfig are AdamW's settings; the learning rate comes with each step.
type AdamWConfig struct {
	Beta1, Beta2, Eps, WeightDecay float64
}

// Optimizer is fused AdamW over a Params.
type Optimizer struct {
	config AdamWConfig
	step   int64 // on a device: those done before this run
	groups []paramGroup
	device deviceState
}

// paramGroup is the parameters that share a weight decay and a scale of the learning rate.
type paramGroup struct {
	weightDecay, scale                float64
	params, grads, expAvgs, expAvgSqs []torch.Tensor
}

// NewOptimizer returns an optimizer that has done steps steps already (0 for a new run). scales, one for each parameter, multiply the learning
// rate; nil: all are 1.
func NewOptimizer(p *Params, config AdamWConfig, scales []float64, steps int64) *Optimizer {
	o := &Optimizer{config: config, step: steps, device: deviceState{params: p}}
	for i, x := range p.list {
		if x.Frozen {
			continue
		}
		weightDecay, scale := config.WeightDecay, 1.0
		if !Decays(x.Name) {
			weightDecay = 0
		}
		if scales != nil {
			scale = scales[i]
		}
		o.device.learning, o.device.grads = append(o.device.learning, i), append(o.device.grads, p.grads[i])
		g := o.group(weightDecay, scale)
		g.params, g.grads = append(g.params, p.params[i]), append(g.grads, p.grads[i])
		g.expAvgs, g.expAvgSqs = append(g.expAvgs, p.expAvgs[i]), append(g.expAvgSqs, p.expAvgSqs[i])
	}
	return o
}

// group returns the group with these settings, which may be a new one.
func (o *Optimizer) group(weightDecay, scale float64) *paramGroup {
	for i := range o.groups {
		if g := &o.groups[i]; g.weightDecay == weightDecay && g.scale == scale {
			return g
		}
	}
	o.groups = append(o.groups, paramGroup{weightDecay: weightDecay, scale: scale})
	return &o.groups[len(o.groups)-1]
}

// Step updates the parameters from their gradients, on the CPU.
func (o *Optimizer) Step(learningRate float64) error {
	o.step++
	for _, g := range o.groups {
		if err := torch.FusedAdamW(g.params, g.grads, g.expAvgs, g.expAvgSqs, o.step, o.settings(g, learningRate)); err != nil {
			return err
		}
	}
	return nil
}

func (o *Optimizer) settings(g paramGroup, learningRate float64) torch.AdamW {
	return torch.AdamW{LearningRate: learningRate * g.scale, Beta1: o.config.Beta1, Beta2: o.config.Beta2, Eps: o.config.Eps, WeightDecay: g.weightDecay}
}

// Steps returns how many steps the optimizer has done. On a device it waits for the last one.
func (o *Optimizer) Steps() int64 {
	if o.device.steps.Defined() {
		return o.device.done()
	}
	return o.step
}

// Close frees what the optimizer has on a device, before its parameters are.
func (o *Optimizer) Close() { o.device.close() }

// spared are the names without weight decay: Trainer's patterns (get_decay_parameter_names), and GPT-2's ln_1, ln_2 and ln_f, which
// Trainer knows by their type.
var spared = regexp.MustCompile(`bias|layernorm|rmsnorm|(^|\.)norm($|\.)|_norm($|\.)|(^|\.)ln_\w+\.`)

// Decays reports whether a parameter is subject to weight decay.
func Decays(name string) bool { return !spared.MatchString(strings.ToLower(name)) }
