package model

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/torch"
)

// Init is how a parameter begins when a checkpoint lacks it: normal with standard deviation Std, or Value where Std is 0.
// Row ZeroRow (-1: none) of an embedding, its padding_idx, is zero. Sinusoidal: an embedding of positions as in Vaswani et al., 2017, 3.5.
type Init struct {
	Std, Value float64
	ZeroRow    int
	Sinusoidal bool
}

// LoadReport says where the parameters came from, as transformers reports it.
type LoadReport struct {
	NewlyInitialised []string // the checkpoint lacks them
	Unused           []string // the checkpoint has them, the model doesn't
}

// Load fills params, which correspond to m's Specs, from a checkpoint; nil: from nothing. What the checkpoint lacks is
// drawn from seed and the parameter's name, so it is the same on every rank and in any order. The end of ctx ends it, with its cause.
func Load(ctx context.Context, m Model, params []torch.Tensor, w *hf.Weights, seed uint64) (LoadReport, error) {
	specs := m.Specs()
	if w == nil {
		var report LoadReport
		for i, s := range specs {
			if ctx.Err() != nil {
				return LoadReport{}, context.Cause(ctx)
			}
			s.fill(params[i], seed)
			report.NewlyInitialised = append(report.NewlyInitialised, s.Name)
		}
		return report, nil
	}
	match, err := matchWeights(m, w)
	if err != nil {
		return LoadReport{}, err
	}
	for i, s := range specs {
		if ctx.Err() != nil {
			return LoadReport{}, context.Cause(ctx)
		}
		name, found := match.Found[s.Name]
		if !found {
			s.fill(params[i], seed)
			continue
		}
		t, _ := w.Tensor(name)
		if err := params[i].Fill(t.AsFloat32); err != nil {
			return LoadReport{}, fmt.Errorf("%s: %w", w.Path, err)
		}
	}
	return LoadReport{NewlyInitialised: match.Missing, Unused: match.Unused}, nil
}

// Check tells whether Load would take a checkpoint, by names, shapes and types alone.
func Check(m Model, w *hf.Weights) error {
	_, err := matchWeights(m, w)
	return err
}

// matchWeights finds the model's parameters in a checkpoint; those that it finds fit.
func matchWeights(m Model, w *hf.Weights) (hf.Matching, error) {
	specs := m.Specs()
	wanted := make([]string, len(specs))
	for i, s := range specs {
		wanted[i] = s.Name
	}
	match := hf.Match(wanted, w.Names(), m.matchRules())
	if len(match.Found) == 0 {
		return match, fmt.Errorf("%s: none of its %d tensors is a parameter of %s (such as %s): these are another model's weights; "+
			"to begin at random, take the file away", w.Path, len(w.Names()), m.Architecture(), wanted[0])
	}
	for _, s := range specs {
		name, found := match.Found[s.Name]
		if !found {
			continue
		}
		t, _ := w.Tensor(name)
		switch {
		case !slices.Equal(t.Shape, s.Shape):
			return match, fmt.Errorf("%s: tensor %s has shape %v, config.json says %v", w.Path, name, t.Shape, s.Shape)
		case !t.DType.Real():
			return match, fmt.Errorf("%s: tensor %s is %s; weights must be F32, F16, BF16 or F64", w.Path, name, t.DType)
		}
	}
	return match, nil
}

func (s Spec) fill(param torch.Tensor, seed uint64) {
	_ = param.Fill(func(x []float32) error { // which never fails
		s.initialise(x, seed)
		return nil
	})
}

func (s Spec) initialise(dst []float32, seed uint64) {
	if s.Init.Sinusoidal {
		sinusoids(dst, int(s.Shape[1]))
		return
	}
	if s.Init.Std == 0 {
		for i := range dst {
			dst[i] = float32(s.Init.Value)
		}
		return
	}
	var key [32]byte
	name := fnv.New128a()
	name.Write([]byte(s.Name))
	binary.LittleEndian.PutUint64(key[:], seed)
	name.Sum(key[8:8])
	r := rand.New(rand.NewChaCha8(key))
	for i := range dst {
		dst[i] = float32(r.NormFloat64() * s.Init.Std)
	}
	if row := s.Init.ZeroRow; row >= 0 && int64(row) < s.Shape[0] {
		clear(dst[int64(row)*s.Shape[1] : int64(row+1)*s.Shape[1]])
	}
}

// sinusoids fills rows of the given width: sines in the even columns and cosines in the odd ones, of wavelengths from 2 pi to 10000 x 2 pi.
func sinusoids(dst []float32, width int) {
	for i := range dst {
		row, column := i/width, i%width
		angle := float64(row) / math.Pow(10000, float64(column/2*2)/float64(width))
		if column%2 == 0 {
			dst[i] = float32(math.Sin(angle))
		} else {
			dst[i] = float32(math.Cos(angle))
		}
	}
}
