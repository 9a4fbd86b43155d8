package shard

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// sized is n samples with nothing in them: enough where only their number counts.
func sized(n int64) *Samples {
	return &Samples{report: SampleReport{Samples: n}, digest: fmt.Sprint("of ", n)}
}

// wanted is how often an epoch takes each sample of a stream at least, and how many come once more.
func wanted(n int64, weight float64) (copies, extra int64) {
	count := int64(math.Floor(weight))*n + int64(math.Round((weight-math.Floor(weight))*float64(n)))
	return count / n, count % n
}

// TestDatasetProperty: for random streams, weights, lanes and worlds that change at random steps, each sample comes exactly as often as its stream
// weighs, and the global batch is the same in every world.
func TestDatasetProperty(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	for range 60 {
		var streams []Stream
		for i := range 1 + r.IntN(4) {
			n := 1 + r.Int64N(3000)
			if r.IntN(5) == 0 {
				n = 16000 + r.Int64N(30000) // blocks of one or two
			}
			weight := []float64{1, 2, 0.5, 1.25, 3.7, 0.9}[r.IntN(6)]
			if n < 2 {
				weight = 1
			}
			streams = append(streams, Stream{Name: fmt.Sprint(i), Samples: sized(n), Weight: weight})
		}
		seed := r.Uint64()
		d, other := datasetOf(t, seed, streams...), datasetOf(t, seed, streams...)
		o := newOrder(t, OrderConfig{Samples: d.Len(), Lanes: 1 + r.IntN(20), BatchSize: 1 + r.IntN(50), Seed: seed, Shuffle: r.IntN(5) > 0})
		seen := make([][]int64, len(streams))
		for i, s := range streams {
			seen[i] = make([]int64, s.Samples.Len())
		}
		epoch, world := r.Int64N(5), 1+r.IntN(17)
		for step := range o.StepsPerEpoch() {
			if r.IntN(4) == 0 {
				world = 1 + r.IntN(17)
			}
			batch := globalBatch(o, epoch, step, world)
			for _, number := range slices.Concat(batch...) {
				ref := d.Ref(epoch, number)
				seen[ref.Stream][ref.Sample]++
				if r.IntN(50) == 0 && other.Ref(epoch, number) != ref {
					t.Fatalf("number %d of epoch %d is another sample to somebody else", number, epoch)
				}
			}
			if r.IntN(8) == 0 && !reflect.DeepEqual(globalBatch(o, epoch, step, 1+r.IntN(17)), batch) {
				t.Fatalf("step %d differs with the world", step)
			}
		}
		for i, s := range streams {
			copies, extra := wanted(s.Samples.Len(), s.Weight)
			for sample, n := range seen[i] {
				if n != copies && n != copies+1 {
					t.Fatalf("weight %v: sample %d of %d came %d times", s.Weight, sample, s.Samples.Len(), n)
				}
				extra -= n - copies
			}
			if extra != 0 {
				t.Fatalf("weight %v: %d samples too few came once more", s.Weight, extra)
			}
		}
	}
}

// One stream of weight 1 is its samples: the same numbers, order and digest, with or without the weight written down.
func TestDatasetOfOneStream(t *testing.T) {
	s := sized(5000)
	for _, stream := range []Stream{{Samples: s}, {Samples: s, Weight: 1}, {Samples: s, Share: 0.3}} {
		d := datasetOf(t, 9, stream)
		if d.Len() != s.Len() || d.Digest() != s.Digest() {
			t.Errorf("%+v: %d samples, digest %s", stream, d.Len(), d.Digest())
		}
		for number := range d.Len() {
			if got := d.Ref(number%7, number); got != (Ref{0, number}) {
				t.Fatalf("number %d is %v", number, got)
			}
		}
	}
}

// The samples that are taken once more are others in each epoch, and each as likely: over many epochs the counts are those of chance.
func TestExtraSamplesChange(t *testing.T) {
	const n, epochs = 400, 300
	d := datasetOf(t, 3, Stream{Samples: sized(n), Weight: 1.25})
	counts := make([]float64, n)
	for epoch := range int64(epochs) {
		for k := range int64(n / 4) {
			ref := d.Ref(epoch, n+k)
			counts[ref.Sample]++
		}
	}
	chi := 0.0
	for _, c := range counts {
		want := float64(epochs) / 4
		chi += (c - want) * (c - want) / (want * 3 / 4)
	}
	if dof := float64(n - 1); math.Abs(chi-dof) > 5*math.Sqrt(2*dof) {
		t.Errorf("chi-square %.0f with %d degrees of freedom", chi, n-1)
	}
}

func TestShares(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	for range 200 {
		var streams []Stream
		all, shares := int64(0), 0.0
		for range 1 + r.IntN(5) {
			s := Stream{Samples: sized(100 + r.Int64N(1000)), Share: 0.1 + r.Float64()}
			all, shares = all+s.Samples.Len(), shares+s.Share
			streams = append(streams, s)
		}
		d := datasetOf(t, 1, streams...)
		if d.Len() != all {
			t.Fatalf("an epoch has %d samples, all streams have %d", d.Len(), all)
		}
		for i, c := range d.Streams() {
			if want := streams[i].Share / shares * float64(all); math.Abs(float64(c.Epoch)-want) > 1 {
				t.Fatalf("stream %d: %d of %d samples, want %.1f", i, c.Epoch, all, want)
			}
		}
	}
}

func TestDatasetDigest(t *testing.T) {
	a, b := sized(100), sized(200)
	seen := map[string]string{}
	for _, c := range []struct {
		seed    uint64
		streams []Stream
	}{
		{1, []Stream{{Samples: a}}}, {1, []Stream{{Samples: b}}}, {1, []Stream{{Samples: a, Weight: 1.5}}}, {2, []Stream{{Samples: a, Weight: 1.5}}},
		{1, []Stream{{Samples: a}, {Samples: b}}}, {1, []Stream{{Samples: b}, {Samples: a}}}, {1, []Stream{{Samples: a}, {Samples: b, Weight: 2}}},
		{1, []Stream{{Samples: a, Share: 1}, {Samples: b, Share: 2}}},
	} {
		digest := datasetOf(t, c.seed, c.streams...).Digest()
		what := fmt.Sprintf("%d %+v", c.seed, c.streams)
		if seen[digest] != "" {
			t.Errorf("%s and %s have one digest", seen[digest], what)
		}
		seen[digest] = what
	}
}

func TestDatasetRefuses(t *testing.T) {
	s := sized(10)
	for words, streams := range map[string][]Stream{
		"no streams": nil, "weight": {{Samples: s, Weight: -1}}, "all or none": {{Samples: s, Share: 1}, {Samples: s}},
		"none of its 10 samples": {{Samples: s, Weight: 0.01}}, "above 0": {{Samples: s, Weight: math.NaN()}}, "at most": {{Samples: s, Weight: math.Inf(1)}},
	} {
		_, err := NewDataset(1, streams...)
		wantError(t, err, "shard:", words)
	}
}

// Two epochs of several streams, with weights, are uncorrelated, and so are the streams' own samples.
func TestEpochsOfStreamsAreUncorrelated(t *testing.T) {
	for seed := range uint64(3) {
		d := datasetOf(t, seed, Stream{Samples: sized(9000)}, Stream{Samples: sized(7000), Weight: 2}, Stream{Samples: sized(4001), Weight: 1.5})
		o := newOrder(t, OrderConfig{Samples: d.Len(), Lanes: 4, BatchSize: 8, Seed: seed, Shuffle: true})
		first, second := positions(o, 0), positions(o, 1)
		if rho := spearman(first, second); math.Abs(rho) > 0.05 {
			t.Errorf("seed %d: two epochs correlate by %.3f", seed, rho)
		}
		// The mean place of a stream's samples is the middle of the epoch.
		sums, counts := map[int]float64{}, map[int]float64{}
		for number, at := range first {
			i := d.Ref(0, int64(number)).Stream
			sums[i], counts[i] = sums[i]+at, counts[i]+1
		}
		for i := range sums {
			if mean := sums[i] / counts[i] / float64(d.Len()); math.Abs(mean-0.5) > 0.03 {
				t.Errorf("seed %d: stream %d lies around %.3f of the epoch", seed, i, mean)
			}
		}
	}
}

// A random sentence comes from any stream, never from the pair's own document, which two streams may share.
func TestNegativesOfStreams(t *testing.T) {
	_, one := corpusOf(t, story(5, 9), nil)
	_, two := corpusOf(t, strings.ReplaceAll(story(4, 4, 3), "s", "t"), nil)
	cfg := SampleConfig{Unit: Pair, MaxTokens: 20}
	a, b := samplesOf(t, one, cfg), samplesOf(t, two, cfg)
	again := samplesOf(t, one, cfg)
	d := datasetOf(t, 5, Stream{Samples: a, Weight: 2}, Stream{Samples: b, Weight: 0.5}, Stream{Samples: again})
	docs := [][]int64{documents(t, a), documents(t, b), documents(t, again)}
	text := func(r Ref) int { return r.Stream % 2 } // streams 0 and 2 are one text
	o := newOrder(t, OrderConfig{Samples: d.Len(), Lanes: 2, BatchSize: 3, Seed: 1, Shuffle: true})
	from := map[int]int{}
	for epoch := range int64(20) {
		pools(t, o, epoch, func(number int64, p Pool) {
			mine := d.Ref(epoch, number)
			got, err := d.Negative(p, epoch, number, uint64(number)*0x9e3779b97f4a7c15+uint64(epoch), false)
			if err != nil {
				t.Fatal(err)
			}
			if text(got) == text(mine) && docs[got.Stream][got.Sample] == docs[mine.Stream][mine.Sample] {
				t.Fatalf("pair %v got %v of its own document", mine, got)
			}
			from[got.Stream]++
		})
	}
	if len(from) != 3 {
		t.Errorf("random sentences come from streams %v alone", from)
	}
}

// BenchmarkRandomAccess reads any of 1e7 samples.
func BenchmarkRandomAccess(b *testing.B) {
	var text strings.Builder
	for i := range 10_000_000 {
		fmt.Fprintf(&text, "%x ab\n", i)
	}
	_, corpus := corpusOf(b, text.String(), func(c *PrepareConfig) {
		c.TextUnit, c.SentenceUnit, c.Encoder = TextLine, SentenceNone, wordEncoder{testEncoder{vocab: 1 << 20}}
	})
	text.Reset()
	s := samplesOf(b, corpus, SampleConfig{Unit: Document, MaxTokens: 128})
	if s.Len() != 10_000_000 {
		b.Fatal(s.Len())
	}
	weighted := datasetOf(b, 1, Stream{Samples: s, Weight: 1.5}, Stream{Samples: s, Weight: 0.25})
	for name, d := range map[string]*Dataset{"alone": oneStream(b, s), "weighted": weighted} {
		b.Run(name, func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			var out Sample
			for b.Loop() {
				if err := d.At(0, r.Int64N(d.Len()), &out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
