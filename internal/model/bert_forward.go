package model

import (
	"math"

	"github.com/ddprun/ddprun/internal/torch"
	"github.com/ddprun/ddprun/objectives"
)

// Legend: N tokens of the micro-batch, H hidden, I intermediate, M labelled tokens, V vocabulary.

// Losses returns the one term "mlm": the cross-entropy summed over the labelled tokens.
func (m *bert) Losses(s *torch.Scope, b *objectives.Batch, p Pass) []Term {
	x := m.head(s, b, p)
	sum := s.LinearCrossEntropy(x, m.decoder(), m.params["cls.predictions.bias"], s.FromInt64s(b.Labels))
	return []Term{{Name: "mlm", Sum: sum, Count: int64(len(b.Labels))}}
}

// Predict returns the likeliest token at each labelled position.
func (m *bert) Predict(s *torch.Scope, b *objectives.Batch) torch.Tensor {
	return s.ArgMax(m.logits(s, b))
}

// logits returns [M, V].
func (m *bert) logits(s *torch.Scope, b *objectives.Batch) torch.Tensor {
	return s.Linear(m.head(s, b, Pass{}), m.decoder(), m.params["cls.predictions.bias"])
}

func (m *bert) decoder() torch.Tensor {
	if m.c.tied {
		return m.params[bertWords]
	}
	return m.params[bertDecoder]
}

// head runs the encoder and, on the labelled tokens alone, the transform before the vocabulary projection: [M, H].
func (m *bert) head(s *torch.Scope, b *objectives.Batch, p Pass) torch.Tensor {
	xNH := m.encode(s, b, p)
	xMH := s.IndexSelect(xNH, s.FromInt64s(b.Labelled))
	xMH = m.activate(s, m.linear(s, "cls.predictions.transform.dense", xMH))
	return m.norm(s, "cls.predictions.transform.LayerNorm", xMH, torch.Tensor{}, 0, torch.DropoutKey{})
}

// encode returns the last hidden states [N, H].
func (m *bert) encode(s *torch.Scope, b *objectives.Batch, p Pass) torch.Tensor {
	site := uint16(0)
	next := func() torch.DropoutKey {
		key := p.Dropout
		key.Site = site
		site++
		return key
	}
	hiddenDrop, attentionDrop := m.c.hiddenDropout, m.c.attentionDropout
	if !p.Train {
		hiddenDrop, attentionDrop = 0, 0
	}
	xNH := s.Sub(func(s *torch.Scope) torch.Tensor {
		x := s.EmbeddingSum(m.params[bertWords], m.params[bertEmb+"position_embeddings.weight"], m.params[bertEmb+"token_type_embeddings.weight"],
			s.FromInt64s(b.IDs), s.FromInt64s(b.Positions), s.FromInt64s(b.TypeIDs), int64(m.c.paddingID))
		x = m.norm(s, bertEmb+"LayerNorm", x, torch.Tensor{}, 0, torch.DropoutKey{})
		if key := next(); hiddenDrop > 0 {
			x = s.Dropout(x, hiddenDrop, key)
		}
		return x
	})
	scale := 1 / math.Sqrt(float64(m.c.hidden/m.c.heads))
	for i := range m.c.layers {
		in, name := xNH, bertLayer(i)
		xNH = s.Sub(func(s *torch.Scope) torch.Tensor {
			q := m.linear(s, name+"attention.self.query", in)
			k := m.linear(s, name+"attention.self.key", in)
			v := m.linear(s, name+"attention.self.value", in)
			a := s.Attention(q, k, v, b.Offsets, m.c.heads, scale, attentionDrop, next())
			a = m.linear(s, name+"attention.output.dense", a)
			x := m.norm(s, name+"attention.output.LayerNorm", a, in, hiddenDrop, next())
			hNI := m.activate(s, m.linear(s, name+"intermediate.dense", x))
			return m.norm(s, name+"output.LayerNorm", m.linear(s, name+"output.dense", hNI), x, hiddenDrop, next())
		})
	}
	return xNH
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
