package model

import (
	"math"

	"github.com/ddprun/ddprun/internal/torch"
	"github.com/ddprun/ddprun/objectives"
)

// Legend: N tokens of the micro-batch, Q tokens that ask, H hidden, I intermediate, M labelled tokens, P pairs, V vocabulary.

// Losses returns the cross-entropy summed over the labelled tokens, and that summed over the pairs.
func (m *bert) Losses(s *torch.Scope, b *objectives.Batch, p Pass) []Term {
	tokensMH, pairsPH := m.transformed(s, b, p)
	var terms []Term
	if m.heads.Tokens {
		terms = append(terms, m.term(s, p, tokensMH, m.decoder(), m.params[m.f.head.bias], b.Labels))
	}
	if m.heads.Pairs {
		term := m.term(s, p, pairsPH, m.params[pairClassifier+".weight"], m.params[pairClassifier+".bias"], b.PairLabels)
		if !p.Train && term.Count > 0 {
			for i, class := range s.ToHost(s.ArgMax(m.linear(s, pairClassifier, pairsPH))).Int64s() {
				if class == b.PairLabels[i] {
					term.Correct++
				}
			}
		}
		terms = append(terms, term)
	}
	return terms
}

func (m *bert) term(s *torch.Scope, p Pass, x, w, bias torch.Tensor, labels []int64) Term {
	if len(labels) == 0 {
		return Term{}
	}
	return Term{Sum: s.LinearCrossEntropy(x, w, bias, s.Input(labels), p.LabelSmoothing), Count: int64(len(labels))}
}

// Logits returns [M, V] and [P, 2].
func (m *bert) Logits(s *torch.Scope, b *objectives.Batch) (tokens, pairs torch.Tensor) {
	tokensMH, pairsPH := m.transformed(s, b, Pass{})
	if m.heads.Tokens {
		tokens = s.Linear(tokensMH, m.decoder(), m.params[m.f.head.bias])
	}
	if m.heads.Pairs {
		pairs = m.linear(s, pairClassifier, pairsPH)
	}
	return tokens, pairs
}

func (m *bert) decoder() torch.Tensor {
	if m.c.tied {
		return m.params[m.f.words()]
	}
	return m.params[m.f.head.decoder+".weight"]
}

// transformed returns what the heads' last projections see: the labelled tokens [M, H], and the pairs' first tokens [P, H]; no tensor for a
// head that the model has not.
func (m *bert) transformed(s *torch.Scope, b *objectives.Batch, p Pass) (tokensMH, pairsPH torch.Tensor) {
	asked := m.asks(b)
	xQH := m.encode(s, b, p, asked)
	if m.heads.Tokens {
		x := xQH
		if m.heads.Pairs {
			x = s.IndexSelect(xQH, s.Input(asked.labelled))
		}
		x = m.activate(s, m.linear(s, m.f.head.transform, x), m.f.headActivation(m.c.activation))
		tokensMH = m.norm(s, m.f.head.transformNorm, x, torch.Tensor{}, 0, torch.DropoutKey{})
	}
	if m.heads.Pairs {
		x := xQH
		if m.heads.Tokens {
			x = s.IndexSelect(xQH, s.Input(asked.pairs))
		}
		pairsPH = s.Tanh(m.linear(s, m.f.pooler(), x))
	}
	return tokensMH, pairsPH
}

// asking is the Q tokens of a micro-batch whose last hidden states the heads use.
type asking struct {
	tokens          []int64 // [Q] their indices, ascending
	offsets         []int32 // [S+1] where samples start among them
	labelled, pairs []int64 // [M], [P] places among them of the labelled tokens and of the pairs' first tokens
}

// asks merges the labelled tokens with the first tokens of the pairs.
func (m *bert) asks(b *objectives.Batch) *asking {
	a := &asking{offsets: []int32{0}}
	label, pair := 0, 0
	for i, start := range b.Offsets[:len(b.Offsets)-1] {
		if m.heads.Pairs && pair < len(b.PairSamples) && b.PairSamples[pair] == int64(i) {
			a.pairs = append(a.pairs, int64(len(a.tokens)))
			a.tokens = append(a.tokens, int64(start))
			pair++
		}
		for ; m.heads.Tokens && label < len(b.Labelled) && b.Labelled[label] < int64(b.Offsets[i+1]); label++ {
			a.labelled = append(a.labelled, int64(len(a.tokens)))
			a.tokens = append(a.tokens, b.Labelled[label])
		}
		a.offsets = append(a.offsets, int32(len(a.tokens)))
	}
	return a
}

// encode returns the last hidden states of all tokens [N, H] or, where only some are asked for, of those [Q, H]. Then the last layer computes no
// others: in it every token is a key, but only those asked for ask.
func (m *bert) encode(s *torch.Scope, b *objectives.Batch, p Pass, asked *asking) torch.Tensor {
	drop := &dropouts{pass: p, hidden: m.c.hiddenDropout, attention: m.c.attentionDropout}
	if !p.Train {
		drop.hidden, drop.attention = 0, 0
	}
	emb := m.f.embeddings()
	keys := s.Offsets(b.Offsets)
	queries, last := keys, torch.Tensor{} // of the last layer: those that ask
	if asked != nil {
		queries, last = s.Offsets(asked.offsets), s.Input(asked.tokens)
	}
	xNH := s.Sub(func(s *torch.Scope) torch.Tensor {
		ids := [][]int64{b.IDs, b.Positions}
		var types, typeIDs torch.Tensor
		if !m.f.typeless {
			ids = append(ids, b.TypeIDs)
		}
		in := s.Inputs(ids...)
		if !m.f.typeless {
			types, typeIDs = m.params[emb+"token_type_embeddings.weight"], in[2]
		}
		x := s.EmbeddingSum(m.params[m.f.words()], m.params[emb+"position_embeddings.weight"], types, in[0], in[1], typeIDs, int64(m.c.paddingID))
		x = m.norm(s, emb+"LayerNorm", x, torch.Tensor{}, 0, torch.DropoutKey{})
		if key := drop.next(); drop.hidden > 0 {
			x = s.Dropout(x, drop.hidden, key)
		}
		if m.c.embedding != m.c.hidden {
			x = m.linear(s, m.f.widening(), x)
		}
		return x
	})
	for i := range m.c.layers {
		xNH = drop.segment(s, []torch.Tensor{xNH}, func(s *torch.Scope, in []torch.Tensor, drop *dropouts) []torch.Tensor {
			x, asking := in[0], keys
			if asked != nil && i == m.c.layers-1 {
				x, asking = s.IndexSelect(x, last), queries
			}
			return []torch.Tensor{m.layer(s, m.f.layer(i), x, asking, in[0], keys, drop)}
		})[0]
	}
	if asked != nil && m.c.layers == 0 {
		return s.IndexSelect(xNH, last)
	}
	return xNH
}

// layer computes one layer for the tokens x [Q, H], which attend to in [N, H].
func (m *bert) layer(s *torch.Scope, name string, x torch.Tensor, queries *torch.Offsets, in torch.Tensor, keys *torch.Offsets, drop *dropouts) torch.Tensor {
	names := m.f.layers
	q := m.linear(s, name+names.query, x)
	k := m.linear(s, name+names.key, in)
	v := m.linear(s, name+names.value, in)
	scale := 1 / math.Sqrt(float64(m.c.hidden/m.c.heads))
	a := s.Attention(q, k, v, queries, keys, m.c.heads, scale, drop.attention, drop.next())
	a = m.linear(s, name+names.attended, a)
	dropped := drop.hidden
	if m.f.undroppedAttention {
		dropped = 0
	}
	x = m.norm(s, name+names.attentionNorm, a, x, dropped, drop.next())
	hQI := m.linear(s, name+names.up, x)
	return m.norm(s, name+names.norm, m.activatedLinear(s, name+names.down, hQI), x, drop.hidden, drop.next())
}

// dropouts numbers the dropouts of a forward pass.
type dropouts struct {
	pass              Pass
	hidden, attention float64 // probabilities
	site              uint16
}

// segment computes part of the network, which with checkpointing is computed again in backward, with the same dropouts.
func (d *dropouts) segment(s *torch.Scope, in []torch.Tensor, f func(*torch.Scope, []torch.Tensor, *dropouts) []torch.Tensor) []torch.Tensor {
	if !d.pass.Train || !d.pass.Checkpointing {
		return s.SubAll(func(s *torch.Scope) []torch.Tensor { return f(s, in, d) })
	}
	first := *d
	return s.Checkpoint(in, func(s *torch.Scope, in []torch.Tensor) []torch.Tensor {
		*d = first
		return f(s, in, d)
	})
}

func (d *dropouts) next() torch.DropoutKey {
	key := d.pass.Dropout
	key.Site = d.site
	d.site++
	return key
}

func (m *bert) linear(s *torch.Scope, name string, x torch.Tensor) torch.Tensor {
	return s.Linear(x, m.params[name+".weight"], m.params[name+".bias"])
}

// norm returns LayerNorm(residual + dropout(x)).
func (m *bert) norm(s *torch.Scope, name string, x, residual torch.Tensor, drop float64, key torch.DropoutKey) torch.Tensor {
	return s.DropoutAddLayerNorm(x, residual, m.params[name+".weight"], m.params[name+".bias"], m.c.layerNormEps, drop, key)
}

// activatedLinear is the linear layer of the activated x.
func (m *bert) activatedLinear(s *torch.Scope, name string, x torch.Tensor) torch.Tensor {
	if m.c.activation == "relu" {
		return m.linear(s, name, s.Relu(x))
	}
	return s.GeluLinear(x, m.params[name+".weight"], m.params[name+".bias"], m.c.activation != "gelu")
}

func (m *bert) activate(s *torch.Scope, x torch.Tensor, activation string) torch.Tensor {
	switch activation {
	case "relu":
		return s.Relu(x)
	case "gelu":
		return s.Gelu(x, false)
	}
	return s.Gelu(x, true)
}
