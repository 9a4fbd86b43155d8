package objectives

import (
	"math"
	"testing"
)

const manySamples = 100000

// sampleOf returns n ordinary tokens of tinyVocab.
func sampleOf(n int) Sample {
	s := Sample{Tokens: make([]uint32, n), WordStart: make([]bool, n)}
	for i := range s.Tokens {
		s.Tokens[i], s.WordStart[i] = uint32(5+i), true
	}
	return s
}

// eachBatch appends the sample under manySamples keys and shows every batch.
func eachBatch(t *testing.T, m *MLM, s Sample, show func(*Batch)) {
	t.Helper()
	var b Batch
	for i := range uint64(manySamples) {
		b.Reset()
		mustAppend(t, m, &b, s, Key{Seed: 42, Epoch: i % 3, Sample: i})
		show(&b)
	}
}

// The number of selected units is binomial, except that none becomes one; each position is as likely as any other.
func TestSelection(t *testing.T) {
	for _, c := range []struct {
		probability float64
		cells       int // counts from cells on are one cell
	}{{0.15, 6}, {0.5, 10}, {0.03, 4}} {
		const n = 10
		m := mustMLM(t, MLMConfig{Probability: c.probability, MaskReplaceProb: 0.8, RandomReplaceProb: 0.1}, tinyVocab)
		counts, chosen := make([]float64, c.cells), make([]float64, n)
		eachBatch(t, m, sampleOf(n), func(b *Batch) {
			counts[min(len(b.Labels), c.cells)-1]++
			for _, i := range b.Labelled {
				chosen[i-1]++
			}
		})
		expected := make([]float64, c.cells)
		for k := range n + 1 {
			expected[min(max(k, 1), c.cells)-1] += manySamples * binomial(n, k, c.probability)
		}
		checkChiSquare(t, "number of labels", counts, expected)

		marginal := c.probability + math.Pow(1-c.probability, n)/n
		for i := range chosen {
			checkChiSquare(t, "marginal of a token", []float64{chosen[i], manySamples - chosen[i]},
				[]float64{manySamples * marginal, manySamples * (1 - marginal)})
		}
	}
}

// Neighbours are selected independently of each other. (With 20 tokens at 0.5 the choice where none was selected plays no part.)
func TestSelectionIsIndependent(t *testing.T) {
	m := mustMLM(t, MLMConfig{Probability: 0.5, MaskReplaceProb: 1}, tinyVocab)
	var joint [8]float64
	eachBatch(t, m, sampleOf(20), func(b *Batch) {
		bit := func(i int) int {
			if b.IDs[i] == 4 {
				return 1
			}
			return 0
		}
		joint[bit(1)<<2|bit(2)<<1|bit(20)]++
	})
	eighth := manySamples / 8.0
	checkChiSquare(t, "joint selection", joint[:], []float64{eighth, eighth, eighth, eighth, eighth, eighth, eighth, eighth})
}

// Where nothing is ever selected, one unit is chosen uniformly: words with WholeWordMask, however long.
func TestFallbackIsUniform(t *testing.T) {
	s := sampleOf(7)
	s.WordStart = []bool{true, true, false, false, true, true, false} // words of 1, 3, 1, 2 tokens
	s.Tokens[4] = unknown                                             // the third cannot be chosen
	for _, c := range []struct {
		whole bool
		units map[int64]int // first token -> unit
	}{
		{false, map[int64]int{1: 0, 2: 1, 3: 2, 4: 3, 6: 4, 7: 5}},
		{true, map[int64]int{1: 0, 2: 1, 6: 2}},
	} {
		m := mustMLM(t, MLMConfig{MaskReplaceProb: 1, WholeWordMask: c.whole}, tinyVocab)
		observed, expected := make([]float64, len(c.units)), make([]float64, len(c.units))
		eachBatch(t, m, s, func(b *Batch) {
			unit, ok := c.units[b.Labelled[0]]
			if !ok {
				t.Fatalf("token %d cannot be the first of a unit", b.Labelled[0])
			}
			observed[unit]++
		})
		for i := range expected {
			expected[i] = manySamples / float64(len(c.units))
		}
		checkChiSquare(t, "chosen unit", observed, expected)
	}
}

// Selected tokens are masked, replaced and left by their shares; a random token may be the original.
func TestReplacement(t *testing.T) {
	const ordinaryTokens = 30 - 6
	for _, whole := range []bool{false, true} {
		for _, shares := range [][2]float64{{0.8, 0.1}, {0.5, 0.5}, {0, 0.5}} {
			m := mustMLM(t, MLMConfig{Probability: 0.15, MaskReplaceProb: shares[0], RandomReplaceProb: shares[1],
				WholeWordMask: whole}, tinyVocab)
			var total, masked, changed float64
			eachBatch(t, m, sampleOf(6), func(b *Batch) {
				for j, i := range b.Labelled {
					total++
					switch b.IDs[i] {
					case 4:
						masked++
					case b.Labels[j]:
					default:
						changed++
					}
				}
			})
			p := shares[1] * (ordinaryTokens - 1) / ordinaryTokens
			var observed, expected []float64
			for _, cell := range [][2]float64{{masked, shares[0]}, {changed, p}, {total - masked - changed, 1 - shares[0] - p}} {
				if cell[1] > 0 {
					observed, expected = append(observed, cell[0]), append(expected, total*cell[1])
				} else if cell[0] > 0 {
					t.Errorf("shares %v: %v tokens in a cell that must stay empty", shares, cell[0])
				}
			}
			checkChiSquare(t, "shares", observed, expected)
		}
	}
}

// Random tokens are uniform over the vocabulary without special tokens, wherever those lie in it.
func TestRandomTokens(t *testing.T) {
	m := mustMLM(t, MLMConfig{Probability: 1, RandomReplaceProb: 1}, tinyVocab)
	counts := make([]float64, tinyVocab.Size)
	eachBatch(t, m, sampleOf(5), func(b *Batch) {
		for _, i := range b.Labelled {
			counts[b.IDs[i]]++
		}
	})
	var observed, expected []float64
	for id, n := range counts {
		if m.tokens.special[id] {
			if n != 0 {
				t.Errorf("special token %d was drawn %v times", id, n)
			}
			continue
		}
		observed, expected = append(observed, n), append(expected, 5*manySamples/24.0)
	}
	checkChiSquare(t, "random tokens", observed, expected)
}

// With WholeWordMask a word is selected as often as a token would be and stays whole: all of it masked, replaced or left.
func TestWholeWords(t *testing.T) {
	s := sampleOf(10)
	s.WordStart = []bool{false, true, false, true, false, false, true, true, false, true}
	s.Tokens[4] = unknown // splits the word of tokens 3 to 5: only [3] and [5] can be hidden
	words := [][2]int{{0, 1}, {1, 3}, {3, 4}, {5, 6}, {6, 7}, {7, 9}, {9, 10}}
	config := usual
	config.WholeWordMask = true
	m := mustMLM(t, config, tinyVocab)
	chosen := make([]float64, len(words))
	eachBatch(t, m, s, func(b *Batch) {
		labelled := map[int64]bool{}
		for _, i := range b.Labelled {
			labelled[i] = true
		}
		for w, word := range words {
			masked, selected := 0, 0
			for i := word[0] + 1; i < word[1]+1; i++ {
				if labelled[int64(i)] {
					selected++
				}
				if b.IDs[i] == 4 {
					masked++
				}
			}
			if n := word[1] - word[0]; selected%n != 0 || masked%n != 0 {
				t.Fatalf("word %v is torn: %+v", word, b)
			}
			if selected > 0 {
				chosen[w]++
			}
		}
	})
	marginal := 0.15 + math.Pow(0.85, 7)/7
	for w := range chosen {
		checkChiSquare(t, "marginal of a word", []float64{chosen[w], manySamples - chosen[w]},
			[]float64{manySamples * marginal, manySamples * (1 - marginal)})
	}
}
