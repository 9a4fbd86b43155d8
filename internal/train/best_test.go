package train

import (
	"strings"
	"testing"
)

// The counts are those of transformers' EarlyStoppingCallback and Trainer's best_metric.
func TestBest(t *testing.T) {
	always := func(int64) bool { return true }
	entry := func(step int64, key string, value float64) map[string]any {
		return map[string]any{"step": float64(step), key: value}
	}
	for _, c := range []struct {
		name       string
		sets       []string
		key        string
		values     []float64 // of steps 0, 10, 20, ...
		top, stops int64     // the best step; the first step at which the run stops, -1: never
	}{
		{"falls", []string{"load_best_model_at_end=true"}, "eval_loss", []float64{9, 3, 2, 1}, 30, -1},
		{"step 0 does not count", []string{"early_stopping_patience=1"}, "eval_loss", []float64{0, 3, 2, 1}, 30, -1},
		{"rises", []string{"early_stopping_patience=2"}, "eval_loss", []float64{9, 3, 4, 2, 3, 3, 1}, 30, 50},
		{"by too little", []string{"early_stopping_patience=2", "early_stopping_threshold=0.5"}, "eval_loss", []float64{9, 3, 2.9, 2.8, 1}, 30, 30},
		{"accuracy", []string{"early_stopping_patience=1", "metric_for_best_model=nsp_accuracy"}, "eval_nsp_accuracy", []float64{9, 0.5, 0.6, 0.6}, 20, 30},
		{"perplexity", []string{"early_stopping_patience=9", "metric_for_best_model=eval_perplexity"}, "eval_perplexity", []float64{9, 5, 6}, 10, -1},
		{"greater is told", []string{"early_stopping_patience=9", "greater_is_better=true"}, "eval_loss", []float64{9, 5, 6}, 20, -1},
	} {
		sets := append([]string{"eval_data=text.txt", "save_strategy=steps"}, c.sets...)
		conf := settings(t, goldenModel, sets...)
		b := newBest(conf, nil, always)
		var history []map[string]any
		stopped := int64(-1)
		for i, value := range c.values {
			step := int64(10 * i)
			history = append(history, entry(step, c.key, value))
			b.see(step, history[i], true)
			if again := newBest(conf, history, always); again.behind != b.behind || (b.top != nil) != (again.top != nil) || b.top != nil && *again.top != *b.top {
				t.Errorf("%s: after a resume at step %d it is %+v, not %+v", c.name, step, again, b)
			}
			if b.stop() {
				stopped = step
				break
			}
		}
		if b.top.step != c.top && stopped < 0 || stopped != c.stops || *b.kept != *b.top {
			t.Errorf("%s: best %+v, stopped at %d; want step %d, %d", c.name, *b.top, stopped, c.top, c.stops)
		}
	}
	conf := settings(t, goldenModel, "eval_data=text.txt", "save_strategy=steps", "load_best_model_at_end=true")
	b := newBest(conf, []map[string]any{entry(10, "eval_loss", 1), entry(20, "eval_loss", 2), entry(30, "loss", 0)}, func(step int64) bool { return step == 20 })
	if b.top.step != 10 || b.kept.step != 20 {
		t.Errorf("best %+v, of those with a checkpoint %+v", b.top, b.kept)
	}
	if b := newBest(settings(t, goldenModel), []map[string]any{entry(10, "eval_loss", 1)}, always); b.top != nil || b.stop() {
		t.Errorf("nothing is asked for, and it follows %+v", b.top)
	}
}

func TestCheckMetric(t *testing.T) {
	for _, c := range []struct{ objective, metric, want string }{
		{"mlm", "loss", ""}, {"mlm", "eval_perplexity", ""}, {"nsp", "nsp_accuracy", ""}, {"mlm+nsp", "nsp_loss", ""}, {"mlm", "accuracy", "eval_loss, eval_perplexity"},
		{"nsp", "perplexity", "eval_loss, eval_nsp_accuracy"}, {"mlm", "b_loss", `have no "b_loss"`},
	} {
		conf := settings(t, goldenModel, "eval_data=text.txt", "objective="+c.objective, "metric_for_best_model="+c.metric)
		err := CheckMetric(conf, newJob(t, conf, 3).Objectives)
		if c.want == "" && err == nil {
			continue
		}
		if c.want == "" || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %s: %v, want %q", c.objective, c.metric, err, c.want)
			continue
		}
		wantKind(t, err, ErrInput)
	}
}

func TestFrozenOf(t *testing.T) {
	r := oneRank(t, newJob(t, settings(t, goldenModel, `freeze=embeddings\.`), 4))
	frozen := 0
	for _, s := range r.params.States() {
		if s.Frozen != strings.Contains(s.Name, "embeddings.") {
			t.Errorf("%s: frozen %v", s.Name, s.Frozen)
		}
		if s.Frozen {
			frozen++
		}
	}
	if frozen != 5 {
		t.Errorf("%d parameters are frozen", frozen)
	}
	for pattern, want := range map[string]string{"layers": `"layers" is in the name of no parameter`, ".": "nothing would learn"} {
		if _, err := frozenOf(r.model.Specs(), []string{pattern}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", pattern, err, want)
		}
	}
}
