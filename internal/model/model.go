package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/torch"
	"github.com/ddprun/ddprun/objectives"
)

// Spec is one parameter: its state-dict key, its shape, how it begins when a checkpoint lacks it, and how deep it lies: the embeddings at 0, the
// layers at 1, 2, ..., the heads after the last of them.
type Spec struct {
	Name  string
	Shape []int64
	Init  Init
	Depth int
}

// Numel returns the number of elements.
func (s Spec) Numel() int64 {
	n := int64(1)
	for _, d := range s.Shape {
		n *= d
	}
	return n
}

// Heads says what a model shall predict.
type Heads struct {
	Tokens  bool // the token at each labelled place
	Pairs   bool // the class of a pair of sentences
	Targets bool // the decoder's tokens, of a sequence-to-sequence model; alone
}

// Term is one part of the loss: the sum of Count single losses. Sum belongs to the scope that the losses were computed in; it is no tensor where
// Count is 0.
type Term struct {
	Sum     torch.Tensor
	Count   int64
	Correct int64 // of pairs in an evaluation: those whose likelier class is the right one
}

// Pass says what a forward pass is for. The zero Pass is evaluation: nothing is dropped.
type Pass struct {
	Train          bool
	Dropout        torch.DropoutKey // Seed, Step and Lane; the model sets Site
	Checkpointing  bool             // layers are computed again in backward instead of keeping what they need there
	LabelSmoothing float64          // share of each target that is spread over all classes
}

// Model is a network with its heads. It is not safe for concurrent use.
type Model interface {
	// Specs lists the parameters in the model's order.
	Specs() []Spec
	// Bind gives the parameters their tensors, which correspond to Specs; the caller keeps owning them.
	Bind(params []torch.Tensor)
	// Losses computes a loss term for each head on a micro-batch that has at least one sample: that of tokens before that of pairs.
	Losses(s *torch.Scope, b *objectives.Batch, p Pass) []Term
	// Logits returns the scores of all tokens at each labelled position [M, V], and of both classes for each pair [P, 2]; no tensor for a head
	// that the model has not.
	Logits(s *torch.Scope, b *objectives.Batch) (tokens, pairs torch.Tensor)
	// PositionOffset is the position id of a sample's first token.
	PositionOffset() int
	// MaxTokens is the longest sample in tokens that the model's positions allow.
	MaxTokens() int
	// VocabRows is the number of rows of the word embeddings; every token id is below it.
	VocabRows() int
	// Architecture is the transformers class that holds just these parameters, such as BertForMaskedLM. Checkpoints bear its name.
	Architecture() string

	matchRules() hf.MatchRules
}

// Supported lists the values of model_type that New takes.
func Supported() []string {
	return slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Keys(families)), slices.Collect(maps.Keys(t5Unscaled)))))
}

// New reads the configuration of a model that has these heads. The parameters have no memory until Bind.
func New(cfg *hf.Config, heads Heads) (Model, error) {
	kind, err := cfg.ModelType()
	if err != nil {
		return nil, err
	}
	family, known := families[kind]
	_, decodes := t5Unscaled[kind]
	switch {
	case decodes && heads == Heads{Targets: true}:
		return newT5(cfg, kind)
	case decodes:
		return nil, fmt.Errorf("%s: a model of type %s reads one text and writes another; "+
			"it has no head for masked tokens or pairs, as mlm, nsp and sop want it", cfg.Path(), kind)
	case known && heads.Targets:
		return nil, fmt.Errorf("%s: a model of type %s has no decoder, as objectives that write text want it; t5 and mt5 have one",
			cfg.Path(), kind)
	case !known:
		return nil, fmt.Errorf("%s: model_type %q is not supported; ddprun trains: %s", cfg.Path(), kind, strings.Join(Supported(), ", "))
	}
	if heads.Pairs && !family.pairs {
		return nil, fmt.Errorf("%s: a model of type %s has no head for pairs of sentences, as nsp and sop want it; bert has one", cfg.Path(), kind)
	}
	return newBert(cfg, family, heads)
}
