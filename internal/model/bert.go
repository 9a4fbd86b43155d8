package model

import (
	"fmt"
	"math"

	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/torch"
)

// bert is BERT (Devlin et al., "BERT", 2019) or one of its family with the heads that an objective wants, as transformers computes it.
type bert struct {
	c      bertConfig
	f      family
	heads  Heads
	specs  []Spec
	params map[string]torch.Tensor
}

// bertConfig holds the fields of config.json that the computation depends on.
type bertConfig struct {
	vocab, hidden, embedding, layers, heads, intermediate, positions, types int
	layerNormEps, hiddenDropout, attentionDropout, initRange                float64
	activation                                                              string
	paddingID, positionOffset                                               int
	tied, sinusoidal                                                        bool
}

func newBert(cfg *hf.Config, f family, heads Heads) (*bert, error) {
	c, err := readBertConfig(cfg, f)
	if err != nil {
		return nil, err
	}
	m := &bert{c: c, f: f, heads: heads}
	m.specs = m.makeSpecs()
	return m, nil
}

// maxSize bounds the sizes in a config.json: no model comes near it, and products of three of them fit an int64.
const maxSize = 1 << 20

// maxLayers bounds the number of layers, whose parameters are listed before the weights are looked at.
const maxLayers = 1 << 12

// reader collects the first error of many getters.
type reader struct {
	cfg *hf.Config
	err error
}

func (r *reader) int(key string, def, least, most int) int {
	v, err := r.cfg.Int(key, def)
	switch {
	case err == nil && v < least:
		err = fmt.Errorf("%s: %s is %d; it must be at least %d", r.cfg.Path(), key, v, least)
	case err == nil && v > most:
		err = fmt.Errorf("%s: %s is %d; it must be at most %d", r.cfg.Path(), key, v, most)
	}
	r.keep(err)
	return v
}

func (r *reader) float(key string, def, least, below float64) float64 {
	v, err := r.cfg.Float(key, def)
	if err == nil && !(v >= least && v < below) {
		err = fmt.Errorf("%s: %s is %v; it must be at least %v and below %v", r.cfg.Path(), key, v, least, below)
	}
	r.keep(err)
	return v
}

func (r *reader) string(key, def string, allowed ...string) string {
	v, err := r.cfg.String(key, def)
	if err == nil {
		ok := false
		for _, a := range allowed {
			ok = ok || v == a
		}
		if !ok {
			err = fmt.Errorf("%s: %s %q is not supported; supported: %q", r.cfg.Path(), key, v, allowed)
		}
	}
	r.keep(err)
	return v
}

func (r *reader) bool(key string, def bool) bool {
	v, err := r.cfg.Bool(key, def)
	r.keep(err)
	return v
}

func (r *reader) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

// readBertConfig takes the defaults of the family's configuration class in transformers.
func readBertConfig(cfg *hf.Config, f family) (bertConfig, error) {
	r, keys, def := &reader{cfg: cfg}, f.keys, f.defaults
	c := bertConfig{
		vocab:            r.int("vocab_size", def.vocab, 1, 1<<24),
		hidden:           r.int(keys.hidden, def.hidden, 1, maxSize),
		layers:           r.int(keys.layers, def.layers, 0, maxLayers),
		heads:            r.int(keys.heads, def.heads, 1, maxSize),
		intermediate:     r.int(keys.intermediate, def.intermediate, 1, maxSize),
		positions:        r.int("max_position_embeddings", 512, 3, maxSize),
		layerNormEps:     1e-12,
		hiddenDropout:    r.float(keys.hiddenDropout, 0.1, 0, 1),
		attentionDropout: r.float(keys.attentionDropout, 0.1, 0, 1),
		initRange:        r.float("initializer_range", 0.02, 0, math.Inf(1)),
		activation:       r.string(keys.activation, "gelu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"),
		tied:             r.bool("tie_word_embeddings", true),
	}
	c.embedding = c.hidden
	if keys.embedding != "" {
		c.embedding = r.int(keys.embedding, def.embedding, 1, maxSize)
	}
	if keys.layerNormEps != "" {
		c.layerNormEps = r.float(keys.layerNormEps, 1e-12, 0, 1)
	}
	if f.typeless {
		c.sinusoidal = r.bool("sinusoidal_pos_embds", false)
	} else {
		c.types = r.int("type_vocab_size", 2, 1, maxSize)
	}
	c.paddingID = -1
	if raw, ok := cfg.Raw("pad_token_id"); !ok || string(raw) != "null" {
		c.paddingID = r.int("pad_token_id", def.paddingID, -1, c.vocab-1)
	}
	if f.positionsAfterPad {
		c.positionOffset = c.paddingID + 1
		if c.paddingID < 0 {
			r.keep(fmt.Errorf("%s: pad_token_id is missing: positions of this model begin after it", cfg.Path()))
		}
		if r.err == nil && c.positionOffset+3 > c.positions {
			r.keep(fmt.Errorf("%s: max_position_embeddings %d leaves no room after pad_token_id %d", cfg.Path(), c.positions, c.paddingID))
		}
	}
	r.string("position_embedding_type", "absolute", "absolute")
	if r.bool("is_decoder", false) {
		r.keep(fmt.Errorf("%s: is_decoder is true; ddprun trains this model as an encoder", cfg.Path()))
	}
	if r.err == nil && c.hidden%c.heads != 0 {
		r.keep(fmt.Errorf("%s: %s %d is not a multiple of %s %d", cfg.Path(), keys.hidden, c.hidden, keys.heads, c.heads))
	}
	return c, r.err
}

// makeSpecs lists the parameters in the order of BERT's state dict.
func (m *bert) makeSpecs() []Spec {
	c, f := m.c, m.f
	h, e, v := int64(c.hidden), int64(c.embedding), int64(c.vocab)
	var specs []Spec
	depth := 0
	add := func(name string, init Init, shape ...int64) { specs = append(specs, Spec{name, shape, init, depth}) }
	normal := Init{Std: c.initRange, ZeroRow: -1}
	linear := func(name string, out, in int64) {
		add(name+".weight", normal, out, in)
		add(name+".bias", Init{ZeroRow: -1}, out)
	}
	norm := func(name string, width int64) {
		add(name+".weight", Init{Value: 1, ZeroRow: -1}, width)
		add(name+".bias", Init{ZeroRow: -1}, width)
	}
	add(f.words(), Init{Std: c.initRange, ZeroRow: c.paddingID}, v, e)
	positions := normal
	positions.Sinusoidal = c.sinusoidal
	if f.positionsAfterPad {
		positions.ZeroRow = c.paddingID
	}
	add(f.embeddings()+"position_embeddings.weight", positions, int64(c.positions), e)
	if !f.typeless {
		add(f.embeddings()+"token_type_embeddings.weight", normal, int64(c.types), e)
	}
	norm(f.embeddings()+"LayerNorm", e)
	if e != h {
		linear(f.widening(), h, e)
	}
	for i := range c.layers {
		p := f.layer(i)
		depth++
		linear(p+f.layers.query, h, h)
		linear(p+f.layers.key, h, h)
		linear(p+f.layers.value, h, h)
		linear(p+f.layers.attended, h, h)
		norm(p+f.layers.attentionNorm, h)
		linear(p+f.layers.up, int64(c.intermediate), h)
		linear(p+f.layers.down, h, int64(c.intermediate))
		norm(p+f.layers.norm, h)
	}
	depth++
	if m.heads.Pairs {
		linear(f.pooler(), h, h)
	}
	if m.heads.Tokens {
		add(f.head.bias, Init{ZeroRow: -1}, v)
		linear(f.head.transform, e, h)
		norm(f.head.transformNorm, e)
		if !c.tied {
			add(f.head.decoder+".weight", normal, v, e)
		}
	}
	if m.heads.Pairs {
		linear(pairClassifier, 2, h)
	}
	return specs
}

func (m *bert) matchRules() hf.MatchRules {
	rules := hf.MatchRules{BasePrefix: m.f.prefix, Tied: map[string]string{}, Ignored: []string{"position_ids"}}
	if m.heads.Tokens {
		if head := m.f.head; head.bias != head.decoder+".bias" {
			rules.Tied[head.decoder+".bias"] = head.bias
		}
		if m.c.tied {
			rules.Tied[m.f.head.decoder+".weight"] = m.f.words()
		}
	}
	return rules
}

func (m *bert) Specs() []Spec       { return m.specs }
func (m *bert) PositionOffset() int { return m.c.positionOffset }
func (m *bert) MaxTokens() int      { return m.c.positions - m.c.positionOffset }
func (m *bert) VocabRows() int      { return m.c.vocab }

func (m *bert) Architecture() string {
	switch m.heads {
	case Heads{Tokens: true, Pairs: true}:
		return m.f.class + "ForPreTraining"
	case Heads{Pairs: true}:
		return m.f.class + "ForNextSentencePrediction"
	}
	return m.f.class + "ForMaskedLM"
}

func (m *bert) Bind(params []torch.Tensor) {
	m.params = make(map[string]torch.Tensor, len(params))
	for i, s := range m.specs {
		m.params[s.Name] = params[i]
	}
}
