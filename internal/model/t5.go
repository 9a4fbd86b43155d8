package model

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/torch"
)

// t5 is T5 (Raffel et al., "Exploring the Limits of Transfer Learning", 2020), v1.0, v1.1 and mT5, as transformers'
// ...ForConditionalGeneration computes it.
type t5 struct {
	c      t5Config
	class  string
	specs  []Spec
	params map[string]torch.Tensor
}

// t5Config holds the fields of config.json that the computation depends on.
type t5Config struct {
	vocab, hidden, headDim, intermediate, layers, decoderLayers, heads, buckets, maxDistance int
	normEps, dropout, initFactor                                                             float64
	activation                                                                               torch.Activation
	gated                                                                                    bool
	scaled                                                                                   bool // the decoder's output, by hidden^-0.5
	tied                                                                                     bool // the head is the embeddings
	start, end                                                                               int  // of the decoder; end -1: none
}

const (
	t5Shared = "shared.weight"
	t5Head   = "lm_head.weight"
)

// t5Unscaled are the supported values of model_type, and whether the decoder's output is never scaled.
var t5Unscaled = map[string]bool{"t5": false, "mt5": true}

// newT5 reads the configuration, and looks into the weights beside it whether they hold a head of their own.
func newT5(cfg *hf.Config, kind string) (*t5, error) {
	c, err := readT5Config(cfg, kind)
	if err != nil {
		return nil, err
	}
	if c.tied, err = t5Tied(filepath.Dir(cfg.Path())); err != nil {
		return nil, err
	}
	m := &t5{c: c, class: strings.ToUpper(strings.TrimSuffix(kind, "t5")) + "T5ForConditionalGeneration"}
	m.specs = m.makeSpecs()
	return m, nil
}

// readT5Config takes the defaults of T5Config or MT5Config in transformers.
func readT5Config(cfg *hf.Config, kind string) (t5Config, error) {
	r := &reader{cfg: cfg}
	vocab, intermediate, layers, heads, activation := 32128, 2048, 6, 8, "relu"
	if kind == "mt5" {
		vocab, intermediate, layers, heads, activation = 250112, 1024, 8, 6, "gated-gelu"
	}
	c := t5Config{
		vocab:        r.int("vocab_size", vocab, 1, 1<<24),
		hidden:       r.int("d_model", 512, 1, maxSize),
		headDim:      r.int("d_kv", 64, 1, maxSize),
		intermediate: r.int("d_ff", intermediate, 1, maxSize),
		layers:       r.int("num_layers", layers, 1, maxLayers),
		heads:        r.int("num_heads", heads, 1, maxSize),
		buckets:      r.int("relative_attention_num_buckets", 32, 4, maxSize),
		maxDistance:  r.int("relative_attention_max_distance", 128, 2, maxSize),
		normEps:      r.float("layer_norm_epsilon", 1e-6, 0, 1),
		dropout:      r.float("dropout_rate", 0.1, 0, 1),
		initFactor:   r.float("initializer_factor", 1, 0, math.Inf(1)),
		end:          -1,
	}
	c.decoderLayers = c.layers
	if isSet(cfg, "num_decoder_layers") {
		c.decoderLayers = r.int("num_decoder_layers", 0, 1, maxLayers)
	}
	name := r.string("feed_forward_proj", activation,
		"relu", "gelu", "gelu_new", "silu", "gated-relu", "gated-gelu", "gated-gelu_new", "gated-silu")
	name, c.gated = strings.CutPrefix(name, "gated-")
	if name == "gelu" && c.gated {
		name = "gelu_new" // as transformers has it, for older configurations' sake
	}
	c.activation = map[string]torch.Activation{"relu": torch.Relu, "gelu": torch.Gelu, "gelu_new": torch.GeluTanh, "silu": torch.Silu}[name]
	tie := !isSet(cfg, "tie_word_embeddings") || r.bool("tie_word_embeddings", true)
	c.scaled = !t5Unscaled[kind] && r.bool("scale_decoder_outputs", tie)
	c.start = r.int("decoder_start_token_id", r.int("pad_token_id", 0, 0, c.vocab-1), 0, c.vocab-1)
	if isSet(cfg, "eos_token_id") {
		c.end = r.int("eos_token_id", 0, 0, c.vocab-1)
	} else if _, found := cfg.Raw("eos_token_id"); !found {
		c.end = 1
	}
	// The widest distance must lie past the buckets of single distances, of which the decoder has more.
	if r.err == nil && c.maxDistance <= c.buckets/2 {
		r.keep(fmt.Errorf("%s: relative_attention_max_distance is %d; it must be more than half of relative_attention_num_buckets, %d",
			cfg.Path(), c.maxDistance, c.buckets))
	}
	return c, r.err
}

// isSet reports whether a key is there and not null.
func isSet(cfg *hf.Config, key string) bool {
	raw, found := cfg.Raw(key)
	return found && string(raw) != "null"
}

// t5Tied reports whether the head is the embeddings: it is unless the weights in dir have both, and they differ. What config.json says does
// not matter, as in transformers 5.
func t5Tied(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	some := false
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".index.json")
		some = some || strings.HasSuffix(name, ".safetensors") || strings.HasPrefix(name, "pytorch_model")
	}
	if !some {
		return true, nil
	}
	w, err := hf.Open(dir)
	if err != nil {
		return false, err
	}
	defer w.Close()
	head, hasHead := w.Tensor(t5Head)
	shared, hasShared := w.Tensor(t5Shared)
	return !hasHead || !hasShared || head.DType == shared.DType && bytes.Equal(head.Data, shared.Data), nil
}

// makeSpecs lists the parameters in the order of transformers' state dict.
func (m *t5) makeSpecs() []Spec {
	c := m.c
	h, inner, f := int64(c.hidden), int64(c.heads)*int64(c.headDim), int64(c.intermediate)
	var specs []Spec
	depth := 0
	add := func(name string, std float64, shape ...int64) {
		specs = append(specs, Spec{name, shape, Init{Std: std * c.initFactor, ZeroRow: -1}, depth})
	}
	norm := func(name string) {
		specs = append(specs, Spec{name + ".weight", []int64{h}, Init{Value: c.initFactor, ZeroRow: -1}, depth})
	}
	root := func(n int64) float64 { return 1 / math.Sqrt(float64(n)) }
	attention := func(name string, relative bool) {
		add(name+".q.weight", root(h*int64(c.headDim)), inner, h)
		add(name+".k.weight", root(h), inner, h)
		add(name+".v.weight", root(h), inner, h)
		add(name+".o.weight", root(inner), h, inner)
		if relative {
			add(name+".relative_attention_bias.weight", root(h), int64(c.buckets), int64(c.heads))
		}
	}
	feedForward := func(name string) {
		if c.gated {
			add(name+".wi_0.weight", root(h), f, h)
			add(name+".wi_1.weight", root(h), f, h)
		} else {
			add(name+".wi.weight", root(h), f, h)
		}
		add(name+".wo.weight", root(f), h, f)
	}
	add(t5Shared, 1, int64(c.vocab), h)
	for _, stack := range []t5Stack{m.encoder(), m.decoder()} {
		for i := range stack.layers {
			depth++
			attention(stack.selfAttention(i), i == 0)
			norm(stack.norm(i, 0))
			if stack.causal {
				attention(stack.crossAttention(i), false)
				norm(stack.norm(i, 1))
			}
			feedForward(stack.feedForward(i))
			norm(stack.norm(i, stack.sublayers-1))
		}
		if !stack.causal {
			norm(stack.finalNorm())
		}
	}
	depth++
	norm(m.decoder().finalNorm())
	if !c.tied {
		add(t5Head, 1, int64(c.vocab), h)
	}
	return specs
}

func (m *t5) matchRules() hf.MatchRules {
	rules := hf.MatchRules{BasePrefix: "transformer",
		Tied:    map[string]string{"encoder.embed_tokens.weight": t5Shared, "decoder.embed_tokens.weight": t5Shared},
		Ignored: []string{"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"}}
	if m.c.tied {
		rules.Tied[t5Head] = t5Shared
	}
	return rules
}

func (m *t5) Specs() []Spec        { return m.specs }
func (m *t5) PositionOffset() int  { return 0 }
func (m *t5) VocabRows() int       { return m.c.vocab }
func (m *t5) Architecture() string { return m.class }

// MaxTokens returns more than any sample has: relative positions have no end.
func (m *t5) MaxTokens() int { return math.MaxInt32 }

// DecoderStart is the id that a sample's decoder input begins with.
func (m *t5) DecoderStart() int64 { return int64(m.c.start) }

func (m *t5) Bind(params []torch.Tensor) {
	m.params = make(map[string]torch.Tensor, len(params))
	for i, s := range m.specs {
		m.params[s.Name] = params[i]
	}
}
