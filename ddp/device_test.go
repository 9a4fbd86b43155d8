package ddp

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/model"
	"github.com/ddprun/ddprun/internal/torch"
	"github.com/ddprun/ddprun/objectives"
)

// pretend runs f with tensors on the CPU taken for a GPU's.
func pretend(f func()) {
	torch.Pretend(true)
	defer torch.Pretend(false)
	f()
}

// onDevice returns parameters and an optimizer that go the way of a GPU's.
func onDevice(t *testing.T, config AdamWConfig, steps int64) (p *Params, o *Optimizer) {
	t.Helper()
	pretend(func() { p = newTestParams(t, testList) })
	o = NewOptimizer(p, config, nil, steps)
	t.Cleanup(o.Close)
	for i, s := range p.States() {
		fillNormal(s.Value, uint64(i))
	}
	return p, o
}

// stepOn runs a step on the device and reads its verdict.
func stepOn(t *testing.T, o *Optimizer, learningRate, maxNorm float64, limit int) (v Verdict) {
	t.Helper()
	err := torch.Do(func(s *torch.Scope) error {
		var numbers torch.Tensor
		var err error
		pretend(func() { numbers, err = o.StepOnDevice(s, learningRate, maxNorm, limit) })
		if err != nil {
			return err
		}
		read, err := torch.NewFetch(numbers).Wait()
		v = o.Verdict(read)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A step on the device is the CPU's up to rounding: the norm, clipping, AdamW with and without decay, an optimizer that goes on, and a step that is left out because its gradient is
// not finite.
func TestStepOnDeviceIsTheHosts(t *testing.T) {
	config := AdamWConfig{Beta1: 0.9, Beta2: 0.98, Eps: 1e-6, WeightDecay: 0.1}
	const done, maxNorm, bad = 3, 20.0, 7
	host := newTestParams(t, testList)
	p, o := onDevice(t, config, done)
	copy(host.flat.Float32s(), p.flat.Float32s())
	h := NewOptimizer(host, config, nil, done)
	clipped := 0
	for step := range 20 {
		for i := range testList {
			g := gradOf(host, i)
			fillNormal(g, uint64(step)<<8|uint64(i))
			for k := range g {
				g[k] *= float32(step%4+1) / 2
			}
		}
		if step == bad {
			gradOf(host, 4)[2], gradOf(host, 1)[5] = float32(math.NaN()), float32(math.Inf(-1))
		}
		copy(p.grad.Float32s(), host.grad.Float32s())
		before := slices.Clone(p.flat.Float32s())
		v := stepOn(t, o, 1e-2, maxNorm, 3)
		norm, err := host.GradNorm()
		if err != nil {
			t.Fatal(err)
		}
		if step == bad {
			if !v.Skipped || v.Streak != 1 || v.FirstBad != host.FirstNonFinite() || v.FirstBad != "layer.0.dense.weight" || !slices.Equal(before, p.flat.Float32s()) {
				t.Errorf("a gradient that is not finite: %+v; the parameters are the same: %v", v, slices.Equal(before, p.flat.Float32s()))
			}
			continue
		}
		if norm > maxNorm {
			clipped++
		}
		if err := errors.Join(host.Clip(norm, maxNorm), h.Step(1e-2)); err != nil {
			t.Fatal(err)
		}
		if v.Skipped || v.Streak != 0 || v.FirstBad != "" || v.Steps != h.Steps() || math.Abs(v.GradNorm/norm-1) > 1e-12 {
			t.Errorf("step %d: %+v; the host's norm is %v, its steps %d", step, v, norm, h.Steps())
		}
	}
	if clipped < 5 || clipped > 15 {
		t.Errorf("%d steps were clipped: want some", clipped)
	}
	if o.Steps() != h.Steps() || o.Steps() != done+19 {
		t.Errorf("%d steps done, %d on the host", o.Steps(), h.Steps())
	}
	worst := 0.0
	for i, s := range p.States() {
		want := host.States()[i]
		for k := range s.Value {
			for _, d := range []float32{s.Value[k] - want.Value[k], s.ExpAvg[k] - want.ExpAvg[k], s.ExpAvgSq[k] - want.ExpAvgSq[k]} {
				worst = max(worst, math.Abs(float64(d)))
			}
		}
	}
	t.Logf("at most %.1e off", worst)
	if !(worst <= 1e-6) { // numbers near 1 have a rounding of 6e-8
		t.Errorf("%.2g off", worst)
	}
}

// After max_nonfinite_steps in a row nothing changes any more, whatever gradients follow; a finite one before that begins the count anew.
func TestLatch(t *testing.T) {
	p, o := onDevice(t, AdamWConfig{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.1}, 0)
	const limit = 3
	var kept []float32
	for step, c := range []struct {
		bad    bool
		streak int
		steps  int64
	}{{false, 0, 1}, {true, 1, 1}, {true, 2, 1}, {false, 0, 2}, {true, 1, 2}, {true, 2, 2}, {true, 3, 2}, {false, 3, 2}, {true, 3, 2}, {false, 3, 2}} {
		for i := range testList {
			fillNormal(gradOf(p, i), uint64(step)<<8|uint64(i))
		}
		if c.bad {
			gradOf(p, 2)[0] = float32(math.NaN())
		}
		before := slices.Concat(p.flat.Float32s(), p.expAvg.Float32s(), p.expAvgSq.Float32s())
		v := stepOn(t, o, 1e-2, 1, limit)
		after := slices.Concat(p.flat.Float32s(), p.expAvg.Float32s(), p.expAvgSq.Float32s())
		skipped := c.bad || c.streak == limit
		if v.Skipped != skipped || v.Streak != c.streak || v.Steps != c.steps || (v.FirstBad != "") != c.bad || slices.Equal(before, after) != skipped {
			t.Errorf("step %d: %+v, unchanged %v; want %+v", step, v, slices.Equal(before, after), c)
		}
		if c.streak == limit && kept == nil {
			kept = before
		}
	}
	if !slices.Equal(kept, slices.Concat(p.flat.Float32s(), p.expAvg.Float32s(), p.expAvgSq.Float32s())) {
		t.Error("a step after the latch has changed something")
	}
}

// Without limits nothing is clipped and nothing latched.
func TestStepOnDeviceWithoutLimits(t *testing.T) {
	p, o := onDevice(t, AdamWConfig{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}, 0)
	for range 5 {
		p.grad.Float32s()[0] = float32(math.NaN())
		stepOn(t, o, 1e-2, 0, 0)
	}
	for i := range testList {
		fillNormal(gradOf(p, i), uint64(i))
	}
	before := slices.Clone(p.grad.Float32s())
	if v := stepOn(t, o, 1e-2, 0, 0); v.Skipped || v.Streak != 0 || v.Steps != 1 || !slices.Equal(before, p.grad.Float32s()) {
		t.Errorf("%+v", v)
	}
}

// Copies of the state and changes of it, on the host and as on a device.
func TestCopyAndFill(t *testing.T) {
	list := slices.Clone(testList)
	list[0].Frozen = true
	for _, device := range []bool{false, true} {
		torch.Pretend(device)
		t.Cleanup(func() { torch.Pretend(false) })
		p := newTestParams(t, list)
		if p.OnDevice() != device {
			t.Errorf("on the device: %v, want %v", p.OnDevice(), device)
		}
		err := p.Fill(func(s State) error {
			for k := range s.Value {
				s.Value[k]++
			}
			for k := range s.ExpAvg {
				s.ExpAvg[k], s.ExpAvgSq[k] = 2, 3
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		states := p.Copy(nil)
		if again := p.Copy(states); &again[1].ExpAvg[0] != &states[1].ExpAvg[0] {
			t.Error("the memory of a copy is not used again")
		}
		for i, s := range states {
			if (s.ExpAvg == nil) != list[i].Frozen || s.Name != list[i].Name || len(s.Value) != int(p.sizes[i]) {
				t.Errorf("%s: %+v", list[i].Name, s)
			}
			for k := range s.Value {
				if s.Value[k] != 1 || s.ExpAvg != nil && (s.ExpAvg[k] != 2 || s.ExpAvgSq[k] != 3) {
					t.Fatalf("%s[%d]: %v", s.Name, k, s)
				}
			}
		}
		states[1].Value[0] = 7
		if got := p.Copy(nil)[1].Value[0]; got != 1 {
			t.Errorf("a copy is a view: %v", got)
		}
		failed := errors.New("failed")
		if err := p.Fill(func(State) error { return failed }); err != failed {
			t.Errorf("got %v", err)
		}
	}
}

// deviceCase is a model that is trained for a few steps.
type deviceCase struct {
	dir           string
	heads         model.Heads
	checkpointing bool
	bf16          bool
	loss, norm    float64 // what the way of a GPU may be off, relative
}

// learner is a rank alone.
type learner struct {
	c      deviceCase
	model  model.Model
	params *Params
	opt    *Optimizer
	reduce *Reducer
	group  Group
	drops  bool
}

func newLearner(t *testing.T, c deviceCase) *learner {
	t.Helper()
	dir := filepath.Join("../internal/model/testdata", c.dir)
	config, err := hf.ReadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	l := &learner{c: c, group: NewLocal(1, nil)[0]}
	if l.model, err = model.New(config, c.heads); err != nil {
		t.Fatal(err)
	}
	var list []Param
	for _, s := range l.model.Specs() {
		list = append(list, Param{Name: s.Name, Shape: s.Shape})
	}
	l.params = newTestParams(t, list)
	l.model.Bind(l.params.Tensors())
	w, err := hf.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := model.Load(t.Context(), l.model, l.params.Tensors(), w, 1); err != nil {
		t.Fatal(err)
	}
	l.opt = NewOptimizer(l.params, AdamWConfig{Beta1: 0.9, Beta2: 0.98, Eps: 1e-4, WeightDecay: 0.1}, nil, 0)
	t.Cleanup(l.opt.Close)
	if l.reduce, err = NewReducer(l.params, l.group, 1<<20); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.reduce.Close)
	return l
}

// batch is a micro-batch of samples of different lengths.
func (l *learner) batch(step int) *objectives.Batch {
	c := l.c
	var b objectives.Batch
	b.Reset()
	if c.heads.Targets {
		b.DecoderOffsets = append(b.DecoderOffsets, 0)
	}
	id := func(i int) int64 { return int64(5 + (17*i+29*step)%80) }
	for sample, n := range []int{9, 1, 20, 14} {
		for at := range n {
			b.IDs = append(b.IDs, id(len(b.IDs)))
			b.Positions = append(b.Positions, int64(l.model.PositionOffset()+at))
			kind := int64(0)
			if c.heads.Pairs {
				kind = int64(at / 8 % 2)
			}
			b.TypeIDs = append(b.TypeIDs, kind)
		}
		if c.heads.Tokens && n > 1 { // a sample in which nothing is labelled
			at := int64(len(b.IDs))
			b.Labelled, b.Labels = append(b.Labelled, at-3, at-1), append(b.Labels, id(sample), id(sample+7))
		}
		if c.heads.Pairs && n != 14 {
			b.PairSamples, b.PairLabels = append(b.PairSamples, int64(sample)), append(b.PairLabels, int64(sample%2))
		}
		if c.heads.Targets {
			for range n/2 + 1 {
				b.DecoderIDs, b.Targets = append(b.DecoderIDs, id(len(b.Targets)+3)), append(b.Targets, id(len(b.Targets)+4))
			}
			b.DecoderOffsets = append(b.DecoderOffsets, int32(len(b.DecoderIDs)))
		}
		b.Offsets = append(b.Offsets, int32(len(b.IDs)))
		b.SampleIDs = append(b.SampleIDs, uint64(sample))
	}
	return &b
}

const (
	deviceRate    = 1e-3
	deviceMaxNorm = 1.0
)

// gradients runs the two micro-batches of a step, the second one with the reducer, and returns the losses.
func (l *learner) gradients(s *torch.Scope, step int) (losses []torch.Tensor, err error) {
	l.params.ZeroGrad()
	for i := range 2 {
		pass := model.Pass{Train: l.drops, Checkpointing: l.c.checkpointing, LabelSmoothing: 0.1, Dropout: torch.DropoutKey{Seed: 3, Step: uint32(step), Lane: uint16(i)}}
		loss := s.DeviceZeros(torch.Float32)
		for _, term := range l.model.Losses(s, l.batch(2*step+i), pass) {
			loss = s.Add(loss, s.MulScalar(term.Sum, 1/float64(2*term.Count)))
		}
		if i == 1 {
			l.reduce.Begin()
		}
		loss.Backward()
		losses = append(losses, loss)
	}
	_, err = l.reduce.Finish()
	return losses, err
}

// way is where the second learner of checkSteps lives.
type way struct {
	enter, leave func()
	drops        bool // what the CPU drops
	forbid       func(on bool)
}

// A few steps of BERT with both heads, RoBERTa and T5, with dropout everywhere, the way of a GPU: losses and norms are the CPU's, and within a whole step, forward, backward, reduction,
// clipping and AdamW, the host never waits for what is computed; it reads all of it two steps later.
func TestWholeStepOnDevice(t *testing.T) {
	checkSteps(t, way{enter: func() { torch.Pretend(true) }, leave: func() { torch.Pretend(false) }, drops: true, forbid: func(bool) {}})
}

// The same on a GPU, but for what is dropped, and with libtorch's own check that nothing waits.
func TestGPUWholeStep(t *testing.T) {
	if _, err := torch.OpenCUDA(); err != nil {
		t.Skip(err)
	}
	may := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	checkSteps(t, way{enter: func() { may(torch.UseCUDA(0)) }, leave: torch.UseCPU, forbid: func(on bool) { may(torch.ForbidWaits(on)) }})
}

func checkSteps(t *testing.T, w way) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	both, targets := model.Heads{Tokens: true, Pairs: true}, model.Heads{Targets: true}
	for _, c := range []deviceCase{
		{"bert-mlm-nsp", both, false, false, 1e-5, 2e-4}, {"bert-mlm-nsp", both, true, false, 1e-5, 2e-4}, {"bert-mlm-nsp", both, true, true, 2e-2, 0.2},
		{"roberta", model.Heads{Tokens: true}, false, false, 1e-5, 2e-4},
		{"t5-v1.1", targets, false, false, 1e-5, 2e-4}, {"t5-v1.1", targets, true, false, 1e-5, 2e-4}, {"t5-v1.0", targets, true, true, 2e-2, 0.2},
	} {
		t.Run(fmt.Sprintf("%s, checkpointing %v, bf16 %v", c.dir, c.checkpointing, c.bf16), func(t *testing.T) {
			torch.SetBF16(c.bf16)
			defer torch.SetBF16(false)
			host := newLearner(t, c)
			w.enter()
			defer w.leave()
			device := newLearner(t, c)
			host.drops, device.drops = w.drops, w.drops
			var fetches []*torch.Fetch
			var worstLoss, worstNorm float64
			const steps, late = 5, 2
			read := func(step int) {
				numbers, err := fetches[step].Wait()
				if err != nil {
					t.Fatal(err)
				}
				w.leave()
				defer w.enter()
				err = torch.Do(func(s *torch.Scope) error {
					losses, err := host.gradients(s, step)
					if err != nil {
						return err
					}
					for i, loss := range losses {
						worstLoss = max(worstLoss, math.Abs(numbers[VerdictNumbers+i]/loss.Value()-1))
					}
					norm, err := host.params.GradNorm()
					v := device.opt.Verdict(numbers[:VerdictNumbers])
					worstNorm = max(worstNorm, math.Abs(v.GradNorm/norm-1))
					if v.Skipped || v.Steps != int64(step)+1 {
						t.Errorf("step %d: %+v", step, v)
					}
					return errors.Join(err, host.params.Clip(norm, deviceMaxNorm), host.opt.Step(deviceRate))
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			for step := range steps {
				var before, trace []string
				w.forbid(step > 0) // the optimizer's counts are set at the first step
				err := torch.Do(func(s *torch.Scope) (err error) {
					var losses []torch.Tensor
					before = torch.Trace(func() { losses, err = device.gradients(s, step) })
					if err != nil {
						return err
					}
					trace = torch.Trace(func() {
						var verdict torch.Tensor
						if verdict, err = device.opt.StepOnDevice(s, deviceRate, deviceMaxNorm, 3); err == nil {
							fetches = append(fetches, torch.NewFetch(s.Numbers(append([]torch.Tensor{verdict}, losses...)...)))
						}
					})
					return err
				})
				w.forbid(false)
				if err != nil {
					t.Fatal(err)
				}
				// The optimizer's counts are set at the first step.
				waits := slices.DeleteFunc(torch.Waits(trace), func(name string) bool {
					return step == 0 && (name == "shim::read" || name == "shim::write")
				})
				waits = append(waits, torch.Waits(before)...)
				if len(waits) > 0 || len(before) < 20 || len(trace) < 20 {
					t.Errorf("step %d: of %d and %d operations the host would wait at %q", step, len(before), len(trace), waits)
				}
				if step >= late {
					read(step - late)
				}
			}
			for step := steps - late; step < steps; step++ {
				read(step)
			}
			t.Logf("losses off by %.1e, norms by %.1e", worstLoss, worstNorm)
			if !(worstLoss <= c.loss && worstNorm <= c.norm) {
				t.Errorf("losses are off by %.2g, norms by %.2g", worstLoss, worstNorm)
			}
		})
	}
}
