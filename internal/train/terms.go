package train

import (
	"slices"
	"strings"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/internal/model"
	"github.com/ddprun/ddprun/internal/torch"
	"github.com/ddprun/ddprun/objectives"
)

// term is one part of the loss: of an objective of the run, and from a head of the model.
type term struct {
	name   string
	part   int     // of the mixture
	weight float64 // what its mean is multiplied with
	head   head
}

// head is what a model predicts.
type head int

const (
	tokenHead  head = iota // masked tokens
	pairHead               // classes of pairs
	targetHead             // the tokens that a decoder writes
)

// count returns how many single losses of the term a micro-batch holds.
func (t term) count(b *objectives.Batch) int {
	switch t.head {
	case tokenHead:
		return len(b.Labels)
	case pairHead:
		return len(b.PairLabels)
	}
	return len(b.Targets)
}

// unit is what the term is a mean over, in words.
func (t term) unit() string {
	return [...]string{tokenHead: "masked_tokens", pairHead: "pairs", targetHead: "target_tokens"}[t.head]
}

// terms returns the parts of the loss in the order of the objectives and of their own terms.
func (job *Job) terms() []term { return termsOf(job.Objectives) }

func termsOf(mixture *objectives.Mixture) []term {
	var terms []term
	for i, part := range mixture.Parts {
		for k, head := range list(headsOfOne(part.Name)) {
			terms = append(terms, term{part.Terms()[k], i, part.LossWeight, head})
		}
	}
	return terms
}

// list returns heads in the order in which a model returns their losses.
func list(h model.Heads) []head {
	var list []head
	if h.Tokens {
		list = append(list, tokenHead)
	}
	if h.Pairs {
		list = append(list, pairHead)
	}
	if h.Targets {
		list = append(list, targetHead)
	}
	return list
}

// headsOfOne returns the heads that an objective wants of a model.
func headsOfOne(objective string) model.Heads {
	task := objective[strings.LastIndexByte(objective, '+')+1:]
	return model.Heads{Tokens: strings.HasPrefix(objective, "mlm"), Pairs: task == "nsp" || task == "sop",
		Targets: objective == "reconstruction" || objective == "span_corruption"}
}

// headsOf returns the heads that the objectives want of their model.
func headsOf(c *config.Config) model.Heads {
	var all model.Heads
	for _, m := range c.Mix() {
		one := headsOfOne(m.Objective)
		all.Tokens, all.Pairs, all.Targets = all.Tokens || one.Tokens, all.Pairs || one.Pairs, all.Targets || one.Targets
	}
	return all
}

// losses computes the terms of a micro-batch that one objective has made, with their indices among all terms. The model may have heads that only other
// objectives use.
func (r *rank) losses(s *torch.Scope, b *objectives.Batch, part int, pass model.Pass) (terms []model.Term, indices []int) {
	computed := r.model.Losses(s, b, pass)
	all := list(headsOf(r.job.Config))
	for k, t := range r.job.terms() {
		if t.part == part {
			terms, indices = append(terms, computed[slices.Index(all, t.head)]), append(indices, k)
		}
	}
	return terms, indices
}
