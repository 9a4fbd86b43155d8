package shard

import (
	"math/rand/v2"
	"testing"
)

func checkBijection(t *testing.T, n int64, seed, epoch uint64) {
	t.Helper()
	p := newPermutation(n, stream(purposeBlocks, seed, epoch, 0, 0))
	seen := make([]bool, n)
	for x := range n {
		y := p.at(x)
		if y < 0 || y >= n || seen[y] {
			t.Fatalf("n %d, seed %d, epoch %d: %d goes to %d", n, seed, epoch, x, y)
		}
		seen[y] = true
		if back := p.inverse(y); back != x {
			t.Fatalf("n %d: %d goes to %d and back to %d", n, x, y, back)
		}
	}
}

func TestPermutationIsABijection(t *testing.T) {
	for n := int64(1); n <= 300; n++ {
		checkBijection(t, n, uint64(n), uint64(n%3))
	}
	r := rand.New(rand.NewPCG(11, 12))
	for range 5 {
		checkBijection(t, 1+r.Int64N(50000), r.Uint64(), r.Uint64N(10))
	}
	// Too large to list: each image leads back, within the range.
	for range 200 {
		n := 1 + r.Int64N(1<<48)
		p := newPermutation(n, stream(purposeBlocks, r.Uint64(), 0, 0, 0))
		for range 10 {
			x := r.Int64N(n)
			if y := p.at(x); y < 0 || y >= n || p.inverse(y) != x {
				t.Fatalf("n %d: %d goes to %d and back to %d", n, x, y, p.inverse(y))
			}
		}
	}
}

// TestPermutationIsUniform counts where 0..n-1 go over many keys: chi-squared far from
// its mean would show a bias. All 24 permutations of 4 come up alike, too.
func TestPermutationIsUniform(t *testing.T) {
	const n, keys = 7, 20000
	var at [n][n]float64
	orders := map[[4]int64]float64{}
	for seed := range uint64(keys) {
		p := newPermutation(n, stream(purposeBlocks, seed, 0, 0, 0))
		for x := range int64(n) {
			at[x][p.at(x)]++
		}
		q := newPermutation(4, stream(purposeBlocks, seed, 1, 0, 0))
		orders[[4]int64{q.at(0), q.at(1), q.at(2), q.at(3)}]++
	}
	chi := 0.0
	for x := range at {
		for y := range at[x] {
			d := at[x][y] - keys/n
			chi += d * d / (keys / n)
		}
	}
	if degrees := float64((n - 1) * (n - 1)); chi > degrees+5*9 { // 5 standard deviations
		t.Errorf("places: chi-squared %.0f with %.0f degrees of freedom", chi, degrees)
	}
	chi = 0
	for _, count := range orders {
		d := count - keys/24.0
		chi += d * d / (keys / 24.0)
	}
	if len(orders) != 24 || chi > 23+5*6.8 {
		t.Errorf("%d of 24 orders, chi-squared %.0f with 23 degrees of freedom", len(orders), chi)
	}
}
