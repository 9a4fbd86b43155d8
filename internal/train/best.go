package train

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/objectives"
)

// best follows metric_for_best_model over the evaluations of a run. Every rank has the same, since evaluations are the same on every rank.
// The evaluation before the first step does not count, as with Trainer.
type best struct {
	key       string // of the evaluations' records; empty: nothing is followed
	greater   bool
	threshold float64
	patience  int // 0: no early stopping

	top    *evaluated // the best one
	kept   *evaluated // the best one of which there is a checkpoint
	behind int        // evaluations since one was better by more than the threshold
}

// evaluated is the metric after a step.
type evaluated struct {
	step  int64
	value float64
}

// newBest takes up what a run's earlier records say; saved tells which steps have checkpoints.
func newBest(c *config.Config, history []map[string]any, saved func(step int64) bool) best {
	b := best{greater: c.GreaterIsBetter, threshold: c.EarlyStoppingThreshold, patience: c.EarlyStoppingPatience}
	if c.MetricForBestModel != "" {
		b.key = metricKey(c.MetricForBestModel)
	}
	for _, entry := range history {
		if step, ok := entry["step"].(float64); ok {
			b.see(int64(step), entry, saved(int64(step)))
		}
	}
	return b
}

// metricKey is how the evaluations' records name a metric.
func metricKey(name string) string { return "eval_" + strings.TrimPrefix(name, "eval_") }

// see takes a record in; those of other kinds than evaluations don't count.
func (b *best) see(step int64, entry map[string]any, saved bool) {
	value, ok := entry[b.key].(float64)
	if !ok || step == 0 {
		return
	}
	if b.top == nil || b.better(value, b.top.value) && max(value-b.top.value, b.top.value-value) > b.threshold {
		b.behind = 0
	} else {
		b.behind++
	}
	now := &evaluated{step, value}
	b.top = b.bestOf(b.top, now)
	if saved {
		b.kept = b.bestOf(b.kept, now)
	}
}

// bestOf returns the later evaluation where there is none before it or it is better.
func (b *best) bestOf(before, now *evaluated) *evaluated {
	if before == nil || b.better(now.value, before.value) {
		return now
	}
	return before
}

func (b *best) better(x, y float64) bool {
	if b.greater {
		return x > y
	}
	return x < y
}

// stop tells whether early stopping ends the run.
func (b *best) stop() bool { return b.patience > 0 && b.behind >= b.patience }

// CheckMetric tells that the evaluations of an objective with these terms have no metric of the name that metric_for_best_model says: an error of kind
// [ErrInput].
func CheckMetric(c *config.Config, mixture *objectives.Mixture) error {
	if c.MetricForBestModel == "" || len(c.EvalSets()) == 0 {
		return nil
	}
	var results []evalResult
	for _, set := range c.EvalSets() {
		result := evalResult{set: set}
		for _, t := range termsOf(mixture) {
			term := evalTerm{name: t.name, tokens: t.head != pairHead}
			if t.head == targetHead && c.EvalDecodeSamples > 0 {
				term.decoded.samples = 1
			}
			result.terms = append(result.terms, term)
		}
		results = append(results, result)
	}
	known := evalEntry(results)
	if _, found := known[metricKey(c.MetricForBestModel)]; found {
		return nil
	}
	return mark(ErrInput, fmt.Errorf("metric_for_best_model: the evaluations have no %q; they have %s", c.MetricForBestModel,
		strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
}
