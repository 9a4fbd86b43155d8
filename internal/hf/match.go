package hf

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// MatchRules is what a model knows about its own tensors' names.
type MatchRules struct {
	// BasePrefix is the attribute under which models with a head hold the model
	// without one, for instance "bert". Checkpoints of either load into the other.
	BasePrefix string
	// Tied maps a name that shares another's tensor to that other one, in the
	// wanted names' spelling: cls.predictions.decoder.weight to
	// bert.embeddings.word_embeddings.weight. A checkpoint may hold either or both.
	Tied map[string]string
	// Ignored names, alone or as the last parts of a longer one, are nobody's loss
	// where a checkpoint has them: position_ids, which used to be saved.
	Ignored []string
}

// Matching says which of a checkpoint's tensors a model's parameters are.
type Matching struct {
	Found   map[string]string // from wanted name to the checkpoint's
	Missing []string          // wanted, not in the checkpoint: newly initialised; in the order wanted
	Unused  []string          // in the checkpoint, not wanted; sorted
}

// Match finds the wanted tensors among a checkpoint's as transformers'
// from_pretrained does: old names of layer norms are renamed (gamma to weight, beta
// to bias), the base model's prefix is added or taken away where that hits a wanted
// name, and a tied parameter is loaded from the tensor that it shares. Of several
// candidates for one name the one that needed no change of its name wins, then the
// first in sorted order; the rest are unused.
func Match(wanted, have []string, rules MatchRules) Matching {
	targets := make(map[string]bool, len(wanted)+len(rules.Tied))
	for _, name := range wanted {
		targets[name] = true
	}
	for tied := range rules.Tied {
		targets[tied] = true
	}
	found := map[string]string{}
	var unused []string
	for _, name := range slices.Sorted(slices.Values(have)) {
		target := targetName(name, targets, rules.BasePrefix)
		before, taken := found[target]
		switch {
		case !targets[target]:
			unused = append(unused, name)
		case !taken:
			found[target] = name
		case name == target: // exact, so before needed a change
			unused = append(unused, before)
			found[target] = name
		default:
			unused = append(unused, name)
		}
	}
	resolveTied(found, targets, rules.Tied)

	m := Matching{Found: map[string]string{}}
	for _, name := range wanted {
		if from, ok := found[name]; ok {
			m.Found[name] = from
		} else {
			m.Missing = append(m.Missing, name)
		}
	}
	for _, name := range slices.Sorted(slices.Values(unused)) {
		if !slices.ContainsFunc(rules.Ignored, func(end string) bool { return name == end || strings.HasSuffix(name, "."+end) }) {
			m.Unused = append(m.Unused, name)
		}
	}
	return m
}

// resolveTied lets each of a tied pair that was not found take the other's tensor.
func resolveTied(found map[string]string, targets map[string]bool, tied map[string]string) {
	for _, name := range slices.SortedFunc(maps.Keys(tied), cmp.Compare[string]) {
		source := tied[name]
		if from, ok := found[source]; ok {
			if _, ok := found[name]; !ok {
				found[name] = from
			}
		} else if from, ok := found[name]; ok && targets[source] {
			found[source] = from
		}
	}
}

// legacyNames renames what TensorFlow's BERT left in old checkpoints.
var legacyNames = strings.NewReplacer("LayerNorm.gamma", "LayerNorm.weight", "LayerNorm.beta", "LayerNorm.bias")

// targetName is the name under which the model may want a checkpoint's tensor.
func targetName(name string, targets map[string]bool, prefix string) string {
	renamed := withPrefix(legacyNames.Replace(name), targets, prefix)
	if !targets[renamed] && renamed != name { // a model whose own names look old
		return withPrefix(name, targets, prefix)
	}
	return renamed
}

// withPrefix takes the base model's prefix away or adds it where that gives a name
// that is wanted.
func withPrefix(name string, targets map[string]bool, prefix string) string {
	if prefix == "" {
		return name
	}
	if short, ok := strings.CutPrefix(name, prefix+"."); ok && targets[short] {
		return short
	}
	if long := prefix + "." + name; targets[long] {
		return long
	}
	return name
}
