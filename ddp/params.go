package ddp

import (
	"fmt"
	"math"

	"github.com/ddprun/ddprun/internal/torch"
)

// Param names a parameter of the model and its shape. A frozen one stays as it is and has no gradient and no moments.
type Param struct {
	Name   string
	Shape  []int64
	Frozen bool
}

// Params holds a model's parameters, their gradients and AdamW's moments in one flat float32 buffer each. In the buffers the
// parameters lie in reverse order, that is about the order in which backward finishes them, each at a multiple of 64 bytes; the gaps
// stay zero. Frozen ones lie after the others, where the other buffers have ended. A parameter and its gradient are views. They lie where models' tensors live
// (torch.UseCUDA). Not safe for concurrent use.
type Params struct {
	list    []Param
	offsets []int64 // of parameter i in the buffers, in elements
	sizes   []int64
	device  bool // as on a GPU: nothing of the host's may touch the buffers, nor wait for them in a step

	flat, grad, expAvg, expAvgSq      torch.Tensor
	params, grads, expAvgs, expAvgSqs []torch.Tensor // views
}

// align is 64 bytes in elements of float32.
const align = 16

// NewParams allocates the buffers, zeroed; the gradients' where group sums them fastest, if it is not nil. Then every rank of group calls
// it. The caller closes the result, before the group.
func NewParams(list []Param, group Group) (*Params, error) {
	p := &Params{list: list, offsets: make([]int64, len(list)), sizes: make([]int64, len(list)), device: torch.Composed()}
	learning, err := p.layOut(0, false)
	if err != nil {
		return nil, err
	}
	total, err := p.layOut(learning, true)
	if err != nil {
		return nil, err
	}
	err = torch.Do(func(s *torch.Scope) error {
		p.flat = s.Move(s.DeviceZeros(torch.Float32, total))
		for _, buf := range []*torch.Tensor{&p.expAvg, &p.expAvgSq} {
			*buf = s.Move(s.DeviceZeros(torch.Float32, learning))
		}
		if shared, ok := group.(*sharedGroup); ok && !p.device {
			var err error
			if p.grad, err = shared.zeros(learning); err != nil {
				return err
			}
		} else {
			p.grad = s.Move(s.DeviceZeros(torch.Float32, learning))
		}
		for i := range list {
			view := func(flat torch.Tensor) torch.Tensor { return s.Move(s.View(flat, p.offsets[i], list[i].Shape...)) }
			t := view(p.flat)
			var g, m, v torch.Tensor
			if !list[i].Frozen {
				g, m, v = view(p.grad), view(p.expAvg), view(p.expAvgSq)
				t.SetRequiresGrad(true)
				t.SetGrad(g)
			}
			p.params, p.grads = append(p.params, t), append(p.grads, g)
			p.expAvgs, p.expAvgSqs = append(p.expAvgs, m), append(p.expAvgSqs, v)
		}
		return nil
	})
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// layOut gives the frozen parameters, or the others, their places from an offset on, and returns where they end.
func (p *Params) layOut(total int64, frozen bool) (int64, error) {
	for i := len(p.list) - 1; i >= 0; i-- {
		if p.list[i].Frozen != frozen {
			continue
		}
		n := int64(1)
		for _, d := range p.list[i].Shape {
			if d <= 0 || n > math.MaxInt64/4/d {
				return 0, fmt.Errorf("parameter %s: shape %v", p.list[i].Name, p.list[i].Shape)
			}
			n *= d
		}
		p.offsets[i], p.sizes[i] = total, n
		total += (n + align - 1) / align * align
	}
	return total, nil
}

// Close frees the buffers. The model must not be used after it.
func (p *Params) Close() {
	for i, t := range p.params {
		if !p.list[i].Frozen {
			t.SetGrad(torch.Tensor{})
		}
	}
	for _, views := range []*[]torch.Tensor{&p.params, &p.grads, &p.expAvgs, &p.expAvgSqs} {
		for _, t := range *views {
			t.Free()
		}
		*views = nil
	}
	for _, buf := range []*torch.Tensor{&p.flat, &p.grad, &p.expAvg, &p.expAvgSq} {
		buf.Free()
		*buf = torch.Tensor{}
	}
}

// Tensors returns the parameters in the order of the list given to NewParams. Params keeps owning them.
func (p *Params) Tensors() []torch.Tensor { return p.params }

// List returns the parameters' names and shapes.
func (p *Params) List() []Param { return p.list }

// Numel returns the number of parameters' elements, gaps not counted.
func (p *Params) Numel() int64 {
	n := int64(0)
	for _, s := range p.sizes {
		n += s
	}
	return n
}

// OnDevice tells whether the buffers are, or are taken to be, a GPU's: then [Optimizer.StepOnDevice] is the way of a step.
func (p *Params) OnDevice() bool { return p.device }

// State is a parameter and its moments. A frozen one has no moments.
type State struct {
	Param
	Value, ExpAvg, ExpAvgSq []float32
}

// Copy copies every parameter and its moments, in order, into to, which an earlier Copy has made, or nil. It waits for the step that is under way.
func (p *Params) Copy(to []State) []State {
	if to == nil {
		for i, x := range p.list {
			state := State{Param: x, Value: make([]float32, p.sizes[i])}
			if !x.Frozen {
				state.ExpAvg, state.ExpAvgSq = make([]float32, p.sizes[i]), make([]float32, p.sizes[i])
			}
			to = append(to, state)
		}
	}
	if !p.device {
		for i, from := range p.States() {
			copy(to[i].Value, from.Value)
			copy(to[i].ExpAvg, from.ExpAvg)
			copy(to[i].ExpAvgSq, from.ExpAvgSq)
		}
		return to
	}
	for i, state := range to {
		p.params[i].ReadFloat32s(state.Value)
		if !state.Frozen {
			p.expAvgs[i].ReadFloat32s(state.ExpAvg)
			p.expAvgSqs[i].ReadFloat32s(state.ExpAvgSq)
		}
	}
	return to
}

// Fill lets f change the parameters and their moments, one after another, which it gets as they are.
func (p *Params) Fill(f func(State) error) error {
	if !p.device {
		for _, state := range p.States() {
			if err := f(state); err != nil {
				return err
			}
		}
		return nil
	}
	for i, x := range p.list {
		err := p.params[i].Fill(func(value []float32) error {
			if x.Frozen {
				return f(State{Param: x, Value: value})
			}
			return p.expAvgs[i].Fill(func(expAvg []float32) error {
				return p.expAvgSqs[i].Fill(func(expAvgSq []float32) error { return f(State{x, value, expAvg, expAvgSq}) })
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// States returns every parameter's memory in order, where that is the host's: views that change with the next step.
func (p *Params) States() []State {
	flat, m, v := p.flat.Float32s(), p.expAvg.Float32s(), p.expAvgSq.Float32s()
	states := make([]State, len(p.list))
	for i := range p.list {
		lo, hi := p.offsets[i], p.offsets[i]+p.sizes[i]
		states[i] = State{Param: p.list[i], Value: flat[lo:hi]}
		if !p.list[i].Frozen {
			states[i].ExpAvg, states[i].ExpAvgSq = m[lo:hi], v[lo:hi]
		}
	}
	return states
}

// Broadcast copies rank 0's parameters to every rank.
func (p *Params) Broadcast(g Group) error {
	w, err := g.Broadcast(p.flat, 0)
	if err != nil {
		return err
	}
	return w.Wait()
}

// ZeroGrad sets the gradients to 0.
func (p *Params) ZeroGrad() { p.grad.Zero() }

// normSegment is the number of elements whose squares are summed before the sums are: fixed, so that the norm does not depend on
// threads or ranks.
const normSegment = 1 << 16

// GradNorm returns the global 2-norm of the gradients, accumulated in float64 a segment and summed in segment order. It, Clip and FirstNonFinite are the way of
// a step on the CPU.
func (p *Params) GradNorm() (float64, error) {
	sums, err := torch.SquareSums(p.grad, normSegment)
	if err != nil {
		return 0, err
	}
	total := 0.0
	for _, s := range sums {
		total += s
	}
	return math.Sqrt(total), nil
}

// Clip scales the gradients down to maxNorm if norm, as GradNorm returned it, is longer; torch.nn.utils.clip_grad_norm_'s formula.
// maxNorm 0 clips nothing.
func (p *Params) Clip(norm, maxNorm float64) error {
	if factor := maxNorm / (norm + 1e-6); maxNorm > 0 && factor < 1 {
		return p.grad.Scale(factor)
	}
	return nil
}

// FirstNonFinite returns the first parameter with a gradient that is not finite, or "".
func (p *Params) FirstNonFinite() string {
	grad := p.grad.Float32s()
	for i, param := range p.list {
		if param.Frozen {
			continue
		}
		for _, x := range grad[p.offsets[i] : p.offsets[i]+p.sizes[i]] {
			if d := x - x; d != 0 { // NaN for NaN and the infinities
				return p.list[i].Name
			}
		}
	}
	return ""
}
