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
	step   int64
	groups []paramGroup
}

// paramGroup is the parameters that share a weight decay.
type paramGroup struct {
	weightDecay                       float64
	params, grads, expAvgs, expAvgSqs []torch.Tensor
}

// NewOptimizer returns an optimizer that has done steps steps already (0 for a new run).
func NewOptimizer(p *Params, config AdamWConfig, steps int64) *Optimizer {
	o := &Optimizer{config: config, step: steps, groups: []paramGroup{{weightDecay: config.WeightDecay}, {weightDecay: 0}}}
	for i, x := range p.list {
		g := &o.groups[0]
		if !Decays(x.Name) {
			g = &o.groups[1]
		}
		g.params, g.grads = append(g.params, p.params[i]), append(g.grads, p.grads[i])
		g.expAvgs, g.expAvgSqs = append(g.expAvgs, p.expAvgs[i]), append(g.expAvgSqs, p.expAvgSqs[i])
	}
	return o
}

// Step updates the parameters from their gradients.
func (o *Optimizer) Step(learningRate float64) error {
	o.step++
	for _, g := range o.groups {
		err := torch.FusedAdamW(g.params, g.grads, g.expAvgs, g.expAvgSqs, o.step, torch.AdamW{
			LearningRate: learningRate, Beta1: o.config.Beta1, Beta2: o.config.Beta2, Eps: o.config.Eps, WeightDecay: g.weightDecay})
		if err != nil {
			return err
		}
	}
	return nil
}

// Steps returns how many steps the optimizer has done.
func (o *Optimizer) Steps() int64 { return o.step }

// spared are the names without weight decay: Trainer's patterns (get_decay_parameter_names), and GPT-2's ln_1, ln_2 and ln_f, which
// Trainer knows by their type.
var spared = regexp.MustCompile(`bias|layernorm|rmsnorm|(^|\.)norm($|\.)|_norm($|\.)|(^|\.)ln_\w+\.`)

// Decays reports whether a parameter is subject to weight decay.
func Decays(name string) bool { return !spared.MatchString(strings.ToLower(name)) }
