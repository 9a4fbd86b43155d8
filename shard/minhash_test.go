package shard

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"testing"
)

// Signatures and estimates are datasketch's, bit for bit, with its own hash functions (tools/golden/make_minhash_golden.py).
func TestMinHashIsDatasketchs(t *testing.T) {
	data, err := os.ReadFile("testdata/minhash.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		A, B       []uint32
		Sets       [][]uint32
		Signatures []signature
		Jaccard    [][]float64
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	m := new(minHasher)
	for i := range m.a {
		m.a[i], m.b[i] = golden.A[i], golden.B[i]
	}
	var encoded [][]byte
	for i, set := range golden.Sets {
		var s signature
		s.reset()
		for _, h := range set {
			m.add(&s, h)
		}
		if s != golden.Signatures[i] {
			t.Errorf("set %d: signature %v, datasketch's %v", i, s, golden.Signatures[i])
		}
		b := make([]byte, signatureBytes)
		s.encode(b)
		encoded = append(encoded, b)
	}
	for i := range encoded {
		for j := range encoded {
			if got := float64(equalMinima(encoded[i], encoded[j])) / signatureHashes; got != golden.Jaccard[i][j] {
				t.Errorf("sets %d and %d: estimate %v, datasketch's %v", i, j, got, golden.Jaccard[i][j])
			}
		}
	}
}

// likeness is the Jaccard similarity of two documents' 5-grams.
func likeness(a, b []uint32) float64 {
	set := func(tokens []uint32) map[[shingleTokens]uint32]bool {
		m := map[[shingleTokens]uint32]bool{}
		for i := 0; i+shingleTokens <= len(tokens); i++ {
			m[[shingleTokens]uint32(tokens[i:])] = true
		}
		return m
	}
	x, y := set(a), set(b)
	both := 0
	for s := range x {
		if y[s] {
			both++
		}
	}
	return float64(both) / float64(len(x)+len(y)-both)
}

// changed returns a copy of tokens in which each is another one with that probability.
func changed(r *rand.Rand, tokens []uint32, probability float64) []uint32 {
	out := append([]uint32{}, tokens...)
	for i := range out {
		if r.Float64() < probability {
			out[i] = r.Uint32N(30000)
		}
	}
	return out
}

func randomTokens(r *rand.Rand, n int) []uint32 {
	out := make([]uint32, n)
	for i := range out {
		out[i] = r.Uint32N(30000)
	}
	return out
}

// The estimates of many pairs are unbiased and as far off as the theory says: sqrt(s (1 - s) / 128).
func TestMinHashEstimates(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	m := newMinHasher(nearSeed)
	var sum, squares, variance float64
	const pairs = 1500
	for range pairs {
		a := randomTokens(r, 100+r.IntN(100))
		b := changed(r, a, 0.1*r.Float64())
		var x, y signature
		m.sign(&x, a)
		m.sign(&y, b)
		equal := 0
		for i := range x {
			if x[i] == y[i] {
				equal++
			}
		}
		truth := likeness(a, b)
		off := float64(equal)/signatureHashes - truth
		sum += off
		squares += off * off
		variance += truth * (1 - truth) / signatureHashes
	}
	if mean, deviation := sum/pairs, math.Sqrt(variance)/pairs; math.Abs(mean) > 4*deviation {
		t.Errorf("estimates are off by %v on average; its standard deviation is %v", mean, deviation)
	}
	if ratio := squares / variance; ratio < 0.85 || ratio > 1.15 {
		t.Errorf("the variance of estimates is %v of what the theory says", ratio)
	}
}

func TestMinHashOfShortDocuments(t *testing.T) {
	m := newMinHasher(nearSeed)
	sign := func(tokens ...uint32) (s signature) {
		m.sign(&s, tokens)
		return s
	}
	same, again := sign(1, 2, 3), sign(1, 2, 3)
	if same == sign(1, 2, 4) || same == sign(1, 2) || same != again {
		t.Error("short documents are told apart by their tokens")
	}
	if sign(1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5) != sign(1, 2, 3, 4, 5, 1, 2, 3, 4, 5) {
		t.Error("a set counts each 5-gram once")
	}
}

// What the bands find, by similarity: the formula, and pairs of signatures that are as similar as that.
func TestBands(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for threshold, want := range map[float64]bands{0.5: {42, 3}, 0.7: {25, 5}, 0.8: {18, 7}, 0.9: {10, 12}} {
		b := bandsFor(threshold)
		if !reflect.DeepEqual(b, want) {
			t.Errorf("threshold %v: %+v, want %+v", threshold, b, want)
		}
		if found := b.found(threshold); found < nearRecall {
			t.Errorf("threshold %v: finds %v of the pairs there", threshold, found)
		}
		for _, similarity := range []float64{threshold - 0.3, threshold, threshold + 0.05} {
			const pairs = 2000
			found := 0
			x, y := make([]byte, signatureBytes), make([]byte, signatureBytes)
			for range pairs {
				for i := 0; i < signatureBytes; i += 4 {
					le.PutUint32(x[i:], r.Uint32())
					copy(y[i:], x[i:i+4])
					if r.Float64() >= similarity {
						le.PutUint32(y[i:], r.Uint32())
					}
				}
				for band := range b.number {
					if b.key(x, band) == b.key(y, band) {
						found++
						break
					}
				}
			}
			p := b.found(similarity)
			if deviation := math.Sqrt(pairs * p * (1 - p)); math.Abs(float64(found)-pairs*p) > 5*deviation+1 {
				t.Errorf("threshold %v: %d of %d pairs of similarity %v are found; want about %v", threshold, found, pairs, similarity, pairs*p)
			}
			t.Logf("threshold %v, %d bands of %d rows: %.4f of pairs of similarity %.2f are compared", threshold, b.number, b.rows, p, similarity)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	m := newMinHasher(nearSeed)
	tokens := randomTokens(r, 500)
	var s signature
	for b.Loop() {
		m.sign(&s, tokens)
	}
	b.ReportMetric(500*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}
