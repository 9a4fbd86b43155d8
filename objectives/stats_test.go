package objectives

import (
	"math"
	"testing"
)

// checkChiSquare fails where observed counts would be met less than once in 10,000 times under the expected ones. The
// draws are keyed, so a test passes always or never.
func checkChiSquare(t *testing.T, what string, observed, expected []float64) {
	t.Helper()
	statistic, freedom := 0.0, -1.0
	var seen, due float64
	for i, e := range expected {
		seen, due = seen+observed[i], due+e
		if e < 5 {
			t.Fatalf("%s: cell %d expects %.2f, too few for the test", what, i, e)
		}
		statistic += (observed[i] - e) * (observed[i] - e) / e
		freedom++
	}
	if math.Abs(seen-due) > 1e-6*due {
		t.Fatalf("%s: %v observed, %v expected", what, seen, due)
	}
	// Wilson and Hilferty's approximation of the quantile; 3.719 is the normal one.
	h := 2 / (9 * freedom)
	limit := freedom * math.Pow(1-h+3.719*math.Sqrt(h), 3)
	if statistic > limit {
		t.Errorf("%s: chi-square %.1f with %.0f degrees of freedom, limit %.1f", what, statistic, freedom, limit)
	}
}

// binomial returns the probability of k successes in n.
func binomial(n, k int, p float64) float64 {
	c := 1.0
	for i := range k {
		c = c * float64(n-i) / float64(i+1)
	}
	return c * math.Pow(p, float64(k)) * math.Pow(1-p, float64(n-k))
}
