package model

import (
	"math"

	"github.com/ddprun/ddprun/internal/torch"
	"github.com/ddprun/ddprun/objectives"
)

// Legend: N tokens of the micro-batch, Q tokens that ask, H hidden, I intermediate, M labelled tokens, V vocabulary.

// Losses returns the one term "mlm": the cross-entropy summed over the labelled tokens.
func (m *bert) Losses(s *torch.Scope, b *objectives.Batch, p Pass) []Term {
	x := m.head(s, b, p)
	sum := s.LinearCrossEntropy(x, m.decoder(), m.params["cls.predictions.bias"], s.FromInt64s(b.Labels))
	return []Term{{Name: "mlm", Sum: sum, Count: int64(len(b.Labels))}}
}

// Logits returns [M, V].
func (m *bert) Logits(s *torch.Scope, b *objectives.Batch) torch.Tensor {
	return s.Linear(m.head(s, b, Pass{}), m.decoder(), m.params["cls.predictions.bias"])
}

func (m *bert) decoder() torch.Tensor {
	if m.c.tied {
		return m.params[bertWords]
	}
	return m.params[bertDecoder]
}

// head runs the encoder and the transform before the vocabulary projection for the labelled tokens: [M, H].
func (m *bert) head(s *torch.Scope, b *objectives.Batch, p Pass) torch.Tensor {
	xMH := m.encode(s, b, p, true)
	xMH = m.activate(s, m.linear(s, "cls.predictions.transform.dense", xMH))
	return m.norm(s, "cls.predictions.transform.LayerNorm", xMH, torch.Tensor{}, 0, torch.DropoutKey{})
}

// encode returns the last hidden states: [N, H], or, where only the labelled tokens' are wanted, [M, H]. Then the last layer computes no
// others: in it every token is a key, but only labelled ones ask.
func (m *bert) encode(s *torch.Scope, b *objectives.Batch, p Pass, labelledOnly bool) torch.Tensor {
	drop := &dropouts{pass: p, hidden: m.c.hiddenDropout, attention: m.c.attentionDropout}
	if !p.Train {
		drop.hidden, drop.attention = 0, 0
	}
	xNH := s.Sub(func(s *torch.Scope) torch.Tensor {
		x := s.EmbeddingSum(m.params[bertWords], m.params[bertEmb+"position_embeddings.weight"], m.params[bertEmb+"token_type_embeddings.weight"],
			s.FromInt64s(b.IDs), s.FromInt64s(b.Positions), s.FromInt64s(b.TypeIDs), int64(m.c.paddingID))
		x = m.norm(s, bertEmb+"LayerNorm", x, torch.Tensor{}, 0, torch.DropoutKey{})
		if key := drop.next(); drop.hidden > 0 {
			x = s.Dropout(x, drop.hidden, key)
		}
		return x
	})
	for i := range m.c.layers {
		in := xNH
		xNH = s.Sub(func(s *torch.Scope) torch.Tensor {
			if labelledOnly && i == m.c.layers-1 {
				return m.layer(s, bertLayer(i), s.IndexSelect(in, s.FromInt64s(b.Labelled)), labelledOffsets(b), in, b.Offsets, drop)
			}
			return m.layer(s, bertLayer(i), in, b.Offsets, in, b.Offsets, drop)
		})
	}
	if labelledOnly && m.c.layers == 0 {
		return s.IndexSelect(xNH, s.FromInt64s(b.Labelled))
	}
	return xNH
}

// layer computes one layer for the tokens x [Q, H], which attend to in [N, H].
func (m *bert) layer(s *torch.Scope, name string, x torch.Tensor, queries []int32, in torch.Tensor, keys []int32, drop *dropouts) torch.Tensor {
	q := m.linear(s, name+"attention.self.query", x)
	k := m.linear(s, name+"attention.self.key", in)
	v := m.linear(s, name+"attention.self.value", in)
	scale := 1 / math.Sqrt(float64(m.c.hidden/m.c.heads))
	a := s.Attention(q, k, v, queries, keys, m.c.heads, scale, drop.attention, drop.next())
	a = m.linear(s, name+"attention.output.dense", a)
	x = m.norm(s, name+"attention.output.LayerNorm", a, x, drop.hidden, drop.next())
	hQI := m.activate(s, m.linear(s, name+"intermediate.dense", x))
	return m.norm(s, name+"output.LayerNorm", m.linear(s, name+"output.dense", hQI), x, drop.hidden, drop.next())
}

// dropouts numbers the dropouts of a forward pass.
type dropouts struct {
	pass              Pass
	hidden, attention float64 // probabilities
	site              uint16
}

func (d *dropouts) next() torch.DropoutKey {
	key := d.pass.Dropout
	key.Site = d.site
	d.site++
	return key
}

// labelledOffsets says where samples start among the labelled tokens, which are in ascending order.
func labelledOffsets(b *objectives.Batch) []int32 {
	offsets := make([]int32, len(b.Offsets))
	at := 0
	for i, start := range b.Offsets {
		for at < len(b.Labelled) && b.Labelled[at] < int64(start) {
			at++
		}
		offsets[i] = int32(at)
	}
	return offsets
}

func (m *bert) linear(s *torch.Scope, name string, x torch.Tensor) torch.Tensor {
	return s.Linear(x, m.params[name+".weight"], m.params[name+".bias"])
}

// norm returns LayerNorm(residual + dropout(x)).
func (m *bert) norm(s *torch.Scope, name string, x, residual torch.Tensor, drop float64, key torch.DropoutKey) torch.Tensor {
	return s.DropoutAddLayerNorm(x, residual, m.params[name+".weight"], m.params[name+".bias"], m.c.layerNormEps, drop, key)
}

func (m *bert) activate(s *torch.Scope, x torch.Tensor) torch.Tensor {
	switch m.c.activation {
	case "relu":
		return s.Relu(x)
	case "gelu":
		return s.Gelu(x, false)
	}
	return s.Gelu(x, true)
}
