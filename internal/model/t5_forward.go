package model

import (
	"fmt"
	"math"

	"github.com/ddprun/ddprun/internal/torch"
	"github.com/ddprun/ddprun/objectives"
)

// Legend: N tokens of the encoder, T of the decoder, H hidden, A heads times their width, I intermediate, V vocabulary.

// Losses returns the cross-entropy summed over the targets.
func (m *t5) Losses(s *torch.Scope, b *objectives.Batch, p Pass) []Term {
	if len(b.Targets) == 0 {
		return []Term{{}}
	}
	sum := s.LinearCrossEntropy(m.decodeAll(s, b, p), m.head(), torch.Tensor{}, s.Input(b.Targets), p.LabelSmoothing)
	return []Term{{Sum: sum, Count: int64(len(b.Targets))}}
}

// Logits returns [T, V], and no tensor for pairs.
func (m *t5) Logits(s *torch.Scope, b *objectives.Batch) (tokens, pairs torch.Tensor) {
	return s.Linear(m.decodeAll(s, b, Pass{}), m.head(), torch.Tensor{}), torch.Tensor{}
}

func (m *t5) head() torch.Tensor {
	if m.c.tied {
		return m.params[t5Shared]
	}
	return m.params[t5Head]
}

// decodeAll returns what the head sees of all decoder tokens [T, H].
func (m *t5) decodeAll(s *torch.Scope, b *objectives.Batch, p Pass) torch.Tensor {
	drop := m.dropouts(p)
	read, written := s.Offsets(b.Offsets), s.Offsets(b.DecoderOffsets)
	memoryNH := s.Sub(func(s *torch.Scope) torch.Tensor { return m.run(s, m.encoder(), b.IDs, read, nil, drop) })
	return s.Sub(func(s *torch.Scope) torch.Tensor {
		cross := &t5Memory{offsets: read, states: memoryNH, keys: m.memoryKeys}
		return m.scale(s, m.run(s, m.decoder(), b.DecoderIDs, written, cross, drop))
	})
}

func (m *t5) dropouts(p Pass) *dropouts {
	drop := &dropouts{pass: p, hidden: m.c.dropout, attention: m.c.dropout}
	if !p.Train {
		drop.hidden, drop.attention = 0, 0
	}
	return drop
}

func (m *t5) scale(s *torch.Scope, x torch.Tensor) torch.Tensor {
	if !m.c.scaled {
		return x
	}
	return s.MulScalar(x, 1/math.Sqrt(float64(m.c.hidden)))
}

// t5Stack names the parameters of the encoder or of the decoder.
type t5Stack struct {
	name              string
	layers, sublayers int
	causal            bool
}

func (m *t5) encoder() t5Stack { return t5Stack{"encoder", m.c.layers, 2, false} }
func (m *t5) decoder() t5Stack { return t5Stack{"decoder", m.c.decoderLayers, 3, true} }

func (t t5Stack) layer(i, sub int) string {
	return fmt.Sprintf("%s.block.%d.layer.%d.", t.name, i, sub)
}
func (t t5Stack) norm(i, sub int) string      { return t.layer(i, sub) + "layer_norm" }
func (t t5Stack) selfAttention(i int) string  { return t.layer(i, 0) + "SelfAttention" }
func (t t5Stack) crossAttention(i int) string { return t.layer(i, 1) + "EncDecAttention" }
func (t t5Stack) feedForward(i int) string    { return t.layer(i, t.sublayers-1) + "DenseReluDense" }
func (t t5Stack) finalNorm() string           { return t.name + ".final_layer_norm" }
func (t t5Stack) nextNorm(i, sub int) string {
	switch {
	case sub+1 < t.sublayers:
		return t.norm(i, sub+1)
	case i+1 < t.layers:
		return t.norm(i+1, 0)
	}
	return t.finalNorm()
}

// t5Memory is what the decoder asks of the encoder: keys gives a layer's keys and values [N, A] of the tokens that offsets divides. They come from
// states [N, H], the encoder's output, where that is given.
type t5Memory struct {
	offsets *torch.Offsets
	states  torch.Tensor
	keys    func(s *torch.Scope, states torch.Tensor, layer int) (k, v torch.Tensor)
}

// memoryKeys projects the encoder's output for a decoder layer.
func (m *t5) memoryKeys(s *torch.Scope, statesNH torch.Tensor, layer int) (k, v torch.Tensor) {
	name := m.decoder().crossAttention(layer)
	return m.linear(s, name+".k", statesNH), m.linear(s, name+".v", statesNH)
}

// run returns a stack's normalised output for its tokens. Layers are x + dropout(sublayer(norm(x))), and the norm that follows a sum
// is computed with it.
func (m *t5) run(s *torch.Scope, stack t5Stack, ids []int64, offsets *torch.Offsets, memory *t5Memory, drop *dropouts) torch.Tensor {
	none := torch.Tensor{}
	x := s.EmbeddingSum(m.params[t5Shared], none, none, s.Input(ids), none, none, -1)
	x, normed := m.norm(s, stack.norm(0, 0), x, none, drop)
	table := m.params[stack.selfAttention(0)+".relative_attention_bias.weight"]
	for i := range stack.layers {
		in := []torch.Tensor{x, normed, table}
		if memory != nil && memory.states.Defined() {
			in = append(in, memory.states)
		}
		out := drop.segment(s, in, func(s *torch.Scope, in []torch.Tensor, drop *dropouts) []torch.Tensor {
			return m.layer(s, stack, i, in, offsets, memory, drop)
		})
		x, normed = out[0], out[1]
	}
	if key := drop.next(); drop.hidden > 0 {
		return s.Dropout(normed, drop.hidden, key)
	}
	return normed
}

// layer computes layer i of a stack from the sum so far, its norm, the table of relative positions, and the encoder's output if memory has that; it
// returns the next sum and its norm.
func (m *t5) layer(s *torch.Scope, stack t5Stack, i int, in []torch.Tensor, offsets *torch.Offsets, memory *t5Memory, drop *dropouts) []torch.Tensor {
	x, normed := in[0], in[1]
	order := torch.Positioning{Causal: stack.causal, Table: in[2], MaxDistance: m.c.maxDistance}
	sub := 0
	residual := func(f func(s *torch.Scope) torch.Tensor) {
		x, normed = m.norm(s, stack.nextNorm(i, sub), s.Sub(f), x, drop)
		sub++
	}
	residual(func(s *torch.Scope) torch.Tensor {
		name := stack.selfAttention(i)
		q, k, v := m.linear(s, name+".q", normed), m.linear(s, name+".k", normed), m.linear(s, name+".v", normed)
		return m.linear(s, name+".o", s.PositionedAttention(q, k, v, offsets, offsets, m.c.heads, 1, order, drop.attention, drop.next()))
	})
	if memory != nil {
		residual(func(s *torch.Scope) torch.Tensor {
			name := stack.crossAttention(i)
			var states torch.Tensor
			if len(in) > 3 {
				states = in[3]
			}
			k, v := memory.keys(s, states, i)
			a := s.Attention(m.linear(s, name+".q", normed), k, v, offsets, memory.offsets, m.c.heads, 1, drop.attention, drop.next())
			return m.linear(s, name+".o", a)
		})
	}
	residual(func(s *torch.Scope) torch.Tensor { return m.feedForward(s, stack.feedForward(i), normed, drop) })
	return []torch.Tensor{x, normed}
}

// feedForward is wo dropout(activation(wi x)), gated where there are two wi.
func (m *t5) feedForward(s *torch.Scope, name string, x torch.Tensor, drop *dropouts) torch.Tensor {
	var hTI, gateTI torch.Tensor
	if m.c.gated {
		hTI, gateTI = m.linear(s, name+".wi_0", x), m.linear(s, name+".wi_1", x)
	} else {
		hTI = m.linear(s, name+".wi", x)
	}
	return m.linear(s, name+".wo", s.DropoutActivation(hTI, gateTI, m.c.activation, drop.hidden, drop.next()))
}

// norm returns residual + dropout(x) and its norm.
func (m *t5) norm(s *torch.Scope, name string, x, residual torch.Tensor, drop *dropouts) (sum, normed torch.Tensor) {
	return s.DropoutAddRMSNorm(x, residual, m.params[name+".weight"], m.c.normEps, drop.hidden, drop.next())
}

func (m *t5) linear(s *torch.Scope, name string, x torch.Tensor) torch.Tensor {
	return s.Linear(x, m.params[name+".weight"], torch.Tensor{})
}
