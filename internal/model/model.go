package model

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/torch"
	"github.com/ddprun/ddprun/objectives"
)

// Spec is one parameter: its state-dict key, its shape, and how it begins when a checkpoint lacks it.
type Spec struct {
	Name  string
	Shape []int64
	Init  Init
}

// Numel returns the number of elements.
func (s Spec) Numel() int64 {
	n := int64(1)
	for _, d := range s.Shape {
		n *= d
	}
	return n
}

// Term is one part of the loss: the sum of Count single losses (MLM tokens, NSP pairs, ...). Sum belongs to the scope that the
// losses were computed in.
type Term struct {
	Name  string
	Sum   torch.Tensor
	Count int64
}

// Pass says what a forward pass is for. The zero Pass is evaluation: nothing is dropped.
type Pass struct {
	Train   bool
	Dropout torch.DropoutKey // Seed, Step and Lane; the model sets Site
}

// Model is a network with its heads. It is not safe for concurrent use.
type Model interface {
	// Specs lists the parameters in the model's order.
	Specs() []Spec
	// Bind gives the parameters their tensors, which correspond to Specs; the caller keeps owning them.
	Bind(params []torch.Tensor)
	// Losses computes the loss terms of a micro-batch that has at least one sample.
	Losses(s *torch.Scope, b *objectives.Batch, p Pass) []Term
	// Logits returns the scores of all tokens at each labelled position [M, V].
	Logits(s *torch.Scope, b *objectives.Batch) torch.Tensor
	// MaxTokens is the longest sample in tokens that the model's positions allow.
	MaxTokens() int
	// VocabRows is the number of rows of the word embeddings; every token id is below it.
	VocabRows() int
	// Architecture is the transformers class that holds just these parameters, such as BertForMaskedLM.
	Architecture() string

	matchRules() hf.MatchRules
}

// Supported lists the values of model_type that New takes.
var Supported = []string{"bert"}

// New reads the configuration of a model. The parameters have no memory until Bind.
func New(cfg *hf.Config) (Model, error) {
	kind, err := cfg.ModelType()
	if err != nil {
		return nil, err
	}
	switch kind {
	case "bert":
		return newBert(cfg)
	}
	return nil, fmt.Errorf("%s: model_type %q is not supported; ddprun trains: %s", cfg.Path(), kind, strings.Join(slices.Sorted(slices.Values(Supported)), ", "))
}
