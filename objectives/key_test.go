package objectives

import (
	"slices"
	"testing"
)

func words(p purpose, k Key, n int) []uint64 {
	var g generator
	g.start(p, k)
	out := make([]uint64, n)
	for i := range out {
		out[i] = g.chacha.Uint64()
	}
	return out
}

func TestGeneratorStartsAgain(t *testing.T) {
	key := Key{Seed: 1, Epoch: 2, Sample: 3}
	var g generator
	g.start(purposeMLM, Key{Seed: 9})
	for range 7 {
		g.uniform() // what was drawn before must not matter
	}
	g.start(purposeMLM, key)
	for i, want := range words(purposeMLM, key, 100) {
		if got := g.chacha.Uint64(); got != want {
			t.Fatalf("draw %d: %d, want %d", i, got, want)
		}
	}
}

// Keys that differ in one part agree in as many bits as chance has it.
func TestKeysAreIndependent(t *testing.T) {
	base := Key{Seed: 42, Epoch: 3, Sample: 1000}
	others := map[string][]uint64{
		"seed":       words(purposeMLM, Key{43, 3, 1000}, 2000),
		"epoch":      words(purposeMLM, Key{42, 4, 1000}, 2000),
		"sample":     words(purposeMLM, Key{42, 3, 1001}, 2000),
		"high bits":  words(purposeMLM, Key{42, 3, 1000 | 1<<63}, 2000),
		"parts swap": words(purposeMLM, Key{3, 42, 1000}, 2000),
		"purpose":    words(purpose{'o', 't', 'h', 'e', 'r'}, base, 2000),
	}
	first := words(purposeMLM, base, 2000)
	for what, other := range others {
		var joint [4]float64
		for i, w := range first {
			for bit := range 64 {
				joint[w>>bit&1<<1|other[i]>>bit&1]++
			}
		}
		quarter := 2000 * 64 / 4.0
		checkChiSquare(t, what, joint[:], []float64{quarter, quarter, quarter, quarter})
	}
}

func TestBelowIsUniform(t *testing.T) {
	var g generator
	for _, n := range []int{1, 2, 3, 7, 30} {
		g.start(purposeMLM, Key{Seed: uint64(n)})
		observed, expected := make([]float64, n), make([]float64, n)
		for range 30000 {
			observed[g.below(n)]++
		}
		for i := range expected {
			expected[i] = 30000 / float64(n)
		}
		checkChiSquare(t, "below", observed, expected)
	}
}

func TestUniform(t *testing.T) {
	var g generator
	g.start(purposeMLM, Key{})
	observed := make([]float64, 50)
	for range 100000 {
		observed[int(g.uniform()*50)]++
	}
	checkChiSquare(t, "uniform", observed, slices.Repeat([]float64{2000}, 50))
}
