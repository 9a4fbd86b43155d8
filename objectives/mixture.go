package objectives

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Part is one objective of a mixture.
type Part struct {
	Objective
	Name       string
	Weight     float64 // its share of the samples, relative to the other parts'
	LossWeight float64 // what its loss is multiplied with
}

// Mixture is the objectives of a run, one at least. Which of them makes a sample is drawn from the key, so it is the same on any rank. It is safe for concurrent
// use.
type Mixture struct {
	Parts []Part
	ends  []float64 // of each part's share, cumulated; the last is 1
}

// NewMixture checks the parts: all are on single samples or all on pairs, weights are above 0, and no loss has another one's name.
func NewMixture(parts ...Part) (*Mixture, error) {
	if len(parts) == 0 {
		return nil, errors.New("no objective")
	}
	m := &Mixture{Parts: parts}
	sum := 0.0
	owner := map[string]string{}
	for _, p := range parts {
		if !(p.Weight > 0) || math.IsInf(p.Weight, 0) || !(p.LossWeight >= 0) || math.IsInf(p.LossWeight, 0) {
			return nil, fmt.Errorf("objective %s: weight %v must be above 0, and loss_weight %v at least 0", p.Name, p.Weight, p.LossWeight)
		}
		if p.Pairs() != parts[0].Pairs() {
			return nil, fmt.Errorf("objectives %s and %s cannot be mixed: one is on pairs of sentences, the other is not", parts[0].Name, p.Name)
		}
		for _, term := range p.Terms() {
			if owner[term] != "" {
				return nil, fmt.Errorf("objectives %s and %s cannot be mixed: both have a loss %s", owner[term], p.Name, term)
			}
			owner[term] = p.Name
		}
		sum += p.Weight
	}
	end := 0.0
	for _, p := range parts {
		end += p.Weight / sum
		m.ends = append(m.ends, end)
	}
	m.ends[len(parts)-1] = 1
	return m, nil
}

// Choose returns the index of the part that makes the key's sample.
func (m *Mixture) Choose(key Key) int {
	if len(m.Parts) == 1 {
		return 0
	}
	var g generator
	g.start(purposeMixture, key)
	x := g.uniform()
	return slices.IndexFunc(m.ends, func(end float64) bool { return x < end })
}

// Terms names the parts of the loss, those of the first objective first.
func (m *Mixture) Terms() []string {
	var terms []string
	for _, p := range m.Parts {
		terms = append(terms, p.Terms()...)
	}
	return terms
}

// Pairs tells whether a sample is a pair of sentences.
func (m *Mixture) Pairs() bool { return m.Parts[0].Pairs() }

// TextTokens is the shortest of the parts': any of them may make a sample.
func (m *Mixture) TextTokens(maxTokens int) int {
	least := math.MaxInt
	for _, p := range m.Parts {
		least = min(least, p.TextTokens(maxTokens))
	}
	return least
}

// SampleTokens is the most of the parts'.
func (m *Mixture) SampleTokens(text int) int {
	most := 0
	for _, p := range m.Parts {
		most = max(most, p.SampleTokens(text))
	}
	return most
}

// Keep tells whether every part can make a sample of the tokens.
func (m *Mixture) Keep(tokens []uint32) bool {
	for _, p := range m.Parts {
		if !p.Keep(tokens) {
			return false
		}
	}
	return true
}

// KeepDigest names the rule of Keep.
func (m *Mixture) KeepDigest() string {
	var rules []string
	for _, p := range m.Parts {
		rules = append(rules, p.KeepDigest())
	}
	slices.Sort(rules)
	return strings.Join(slices.Compact(rules), "+")
}
