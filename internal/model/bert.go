package model

import (
	"fmt"
	"math"

	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/torch"
)

// bert is BertForMaskedLM (Devlin et al., "BERT", 2019), as transformers computes it.
type bert struct {
	c      bertConfig
	specs  []Spec
	params map[string]torch.Tensor
}

// bertConfig holds the fields of config.json that the computation depends on.
type bertConfig struct {
	vocab, hidden, layers, heads, intermediate, positions, types int
	layerNormEps, hiddenDropout, attentionDropout, initRange     float64
	activation                                                   string
	paddingID                                                    int
	tied                                                         bool
}

func newBert(cfg *hf.Config) (*bert, error) {
	c, err := readBertConfig(cfg)
	if err != nil {
		return nil, err
	}
	m := &bert{c: c}
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

// readBertConfig takes the defaults of transformers' BertConfig.
func readBertConfig(cfg *hf.Config) (bertConfig, error) {
	r := &reader{cfg: cfg}
	c := bertConfig{
		vocab:            r.int("vocab_size", 30522, 1, 1<<24),
		hidden:           r.int("hidden_size", 768, 1, maxSize),
		layers:           r.int("num_hidden_layers", 12, 0, maxLayers),
		heads:            r.int("num_attention_heads", 12, 1, maxSize),
		intermediate:     r.int("intermediate_size", 3072, 1, maxSize),
		positions:        r.int("max_position_embeddings", 512, 3, maxSize),
		types:            r.int("type_vocab_size", 2, 1, maxSize),
		layerNormEps:     r.float("layer_norm_eps", 1e-12, 0, 1),
		hiddenDropout:    r.float("hidden_dropout_prob", 0.1, 0, 1),
		attentionDropout: r.float("attention_probs_dropout_prob", 0.1, 0, 1),
		initRange:        r.float("initializer_range", 0.02, 0, math.Inf(1)),
		activation:       r.string("hidden_act", "gelu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"),
		tied:             r.bool("tie_word_embeddings", true),
	}
	c.paddingID = -1
	if raw, ok := cfg.Raw("pad_token_id"); !ok || string(raw) != "null" {
		c.paddingID = r.int("pad_token_id", 0, -1, c.vocab-1)
	}
	r.string("position_embedding_type", "absolute", "absolute")
	if r.bool("is_decoder", false) {
		r.keep(fmt.Errorf("%s: is_decoder is true; ddprun trains BERT as an encoder", cfg.Path()))
	}
	if r.err == nil && c.hidden%c.heads != 0 {
		r.keep(fmt.Errorf("%s: hidden_size %d is not a multiple of num_attention_heads %d", cfg.Path(), c.hidden, c.heads))
	}
	return c, r.err
}

// makeSpecs lists the parameters in the order of transformers' state dict.
func (m *bert) makeSpecs() []Spec {
	c := m.c
	h, v := int64(c.hidden), int64(c.vocab)
	var specs []Spec
	add := func(name string, init Init, shape ...int64) { specs = append(specs, Spec{name, shape, init}) }
	normal := Init{Std: c.initRange, ZeroRow: -1}
	linear := func(name string, out, in int64) {
		add(name+".weight", normal, out, in)
		add(name+".bias", Init{ZeroRow: -1}, out)
	}
	norm := func(name string) {
		add(name+".weight", Init{Value: 1, ZeroRow: -1}, h)
		add(name+".bias", Init{ZeroRow: -1}, h)
	}
	add(bertWords, Init{Std: c.initRange, ZeroRow: c.paddingID}, v, h)
	add(bertEmb+"position_embeddings.weight", normal, int64(c.positions), h)
	add(bertEmb+"token_type_embeddings.weight", normal, int64(c.types), h)
	norm(bertEmb + "LayerNorm")
	for i := range c.layers {
		p := bertLayer(i)
		linear(p+"attention.self.query", h, h)
		linear(p+"attention.self.key", h, h)
		linear(p+"attention.self.value", h, h)
		linear(p+"attention.output.dense", h, h)
		norm(p + "attention.output.LayerNorm")
		linear(p+"intermediate.dense", int64(c.intermediate), h)
		linear(p+"output.dense", h, int64(c.intermediate))
		norm(p + "output.LayerNorm")
	}
	add("cls.predictions.bias", Init{ZeroRow: -1}, v)
	linear("cls.predictions.transform.dense", h, h)
	norm("cls.predictions.transform.LayerNorm")
	if !c.tied {
		add(bertDecoder, normal, v, h)
	}
	return specs
}

const (
	bertEmb     = "bert.embeddings."
	bertWords   = bertEmb + "word_embeddings.weight"
	bertDecoder = "cls.predictions.decoder.weight"
)

func bertLayer(i int) string { return fmt.Sprintf("bert.encoder.layer.%d.", i) }

func (m *bert) matchRules() hf.MatchRules {
	rules := hf.MatchRules{
		BasePrefix: "bert",
		Tied:       map[string]string{"cls.predictions.decoder.bias": "cls.predictions.bias"},
		Ignored:    []string{"position_ids"},
	}
	if m.c.tied {
		rules.Tied[bertDecoder] = bertWords
	}
	return rules
}

func (m *bert) Specs() []Spec        { return m.specs }
func (m *bert) MaxTokens() int       { return m.c.positions }
func (m *bert) VocabRows() int       { return m.c.vocab }
func (m *bert) Architecture() string { return "BertForMaskedLM" }

func (m *bert) Bind(params []torch.Tensor) {
	m.params = make(map[string]torch.Tensor, len(params))
	for i, s := range m.specs {
		m.params[s.Name] = params[i]
	}
}
