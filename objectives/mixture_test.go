package objectives

import (
	"slices"
	"strings"
	"testing"
)

func parts(t *testing.T) (reconstruct, spans, mlm, nsp Part) {
	reconstruct = Part{mustReconstruct(t, ReconstructionConfig{Perturbation: Deleted, WordOrder: Kept}), "reconstruction", 1, 1}
	spans = Part{mustSpans(t, SpanConfig{Density: 0.15, MeanLength: 3}), "span_corruption", 3, 0.5}
	mlm = Part{mustMLM(t, usual, tinyVocab), "mlm", 1, 1}
	nsp = Part{mustPair(t, PairConfig{Task: NSP, MaxTokens: 20}, tinyVocab), "nsp", 1, 1}
	return
}

func TestNewMixtureRefuses(t *testing.T) {
	reconstruct, spans, mlm, nsp := parts(t)
	weightless, infinite := spans, spans
	weightless.Weight, infinite.LossWeight = 0, -1
	for want, list := range map[string][]Part{
		"no objective":                    nil,
		"one is on pairs":                 {mlm, nsp},
		"both have a loss mlm":            {mlm, mlm},
		"weight 0 must be above 0":        {reconstruct, weightless},
		"loss_weight -1 at least 0":       {reconstruct, infinite},
		"objective span_corruption: weig": {weightless},
	} {
		if _, err := NewMixture(list...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestMixture(t *testing.T) {
	reconstruct, spans, mlm, _ := parts(t)
	m, err := NewMixture(reconstruct, spans)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(m.Terms(), []string{"reconstruction", "span_corruption"}) || m.Pairs() || m.KeepDigest() != "mlm-maskable-1+two-tokens-1" {
		t.Errorf("terms %v, pairs %v, rule %s", m.Terms(), m.Pairs(), m.KeepDigest())
	}
	if m.TextTokens(40) != reconstruct.TextTokens(40) || m.TextTokens(40) > spans.TextTokens(40) {
		t.Errorf("room for %d tokens, of %d and %d", m.TextTokens(40), reconstruct.TextTokens(40), spans.TextTokens(40))
	}
	if m.Keep([]uint32{5}) || !m.Keep([]uint32{5, 6}) {
		t.Error("Keep is not that of both")
	}
	counts := make([]float64, 2)
	for i := range uint64(manySamples) {
		key := Key{Seed: 42, Epoch: i % 3, Sample: i}
		first := m.Choose(key)
		counts[first]++
		if again := m.Choose(key); i < 100 && again != first {
			t.Fatal("a key chooses twice")
		}
	}
	checkChiSquare(t, "shares", counts, []float64{manySamples / 4, 3 * manySamples / 4})
	alone, err := NewMixture(mlm)
	if err != nil || alone.Choose(Key{}) != 0 || alone.KeepDigest() != "mlm-maskable-1" {
		t.Errorf("one objective alone: %v, rule %s", err, alone.KeepDigest())
	}
}
