package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/shard"
)

// cleanedWorkspace has two streams and a held-out text. Each document is a line with its number; 60 of the first stream, of which 10 come twice, 60 of the second,
// of which 10 are of the first, 5 are in the held-out text and 3 are a word.
func cleanedWorkspace(t *testing.T) *workspace {
	w := newWorkspace(t)
	line := func(i int) string {
		return fmt.Sprintf("the quick brown fox number %d jumps over %d lazy dogs and runs %d miles away\n", i, 3*i, 7*i)
	}
	var first, second, heldOut strings.Builder
	for i := range 60 {
		first.WriteString(line(i))
		second.WriteString(line(50 + i))
		if i < 10 {
			first.WriteString(line(i))
		}
		if i < 5 {
			heldOut.WriteString(line(100 + i))
		}
		if i < 3 {
			fmt.Fprintf(&second, "%c\n", 'a'+i)
		}
	}
	w.write("first.txt", first.String())
	w.write("second.txt", second.String())
	w.write("heldout.txt", heldOut.String())
	return w
}

func (w *workspace) cleanedLines(more ...string) []string {
	return append([]string{"data: [{name: first, path: " + w.path("first.txt") + "}, {name: second, path: " + w.path("second.txt") + ", weight: 2}]",
		"eval_data: " + w.path("heldout.txt"), "text_unit: line", "deduplicate: exact", "min_document_tokens: 5", "validation_split_percentage: 20",
		"sample_unit: document", "max_seq_length: 64"}, more...)
}

// texts are the texts of a dataset's samples.
func texts(t *testing.T, x *text, set *shard.Dataset) map[string]int {
	t.Helper()
	all := map[string]int{}
	var sample shard.Sample
	for i := range set.Len() {
		if err := set.At(0, i, &sample); err != nil {
			t.Fatal(err)
		}
		s, err := x.tok.Decode(sample.Tokens, false)
		if err != nil {
			t.Fatal(err)
		}
		all[s]++
	}
	return all
}

// Through the whole program: what is trained on has no duplicates and nothing of the evaluation's text, what is held out is a set of its own, and all of it is
// reported.
func TestDocumentsThatCount(t *testing.T) {
	w := cleanedWorkspace(t)
	w.write("train.yaml", w.config(w.cleanedLines()...))
	out, err := worker("", "prepare", w.path("train.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"data.first: exact_duplicate: 10 documents", "data.second: exact_duplicate: 10 documents", "data.second: in_eval_data: 5 documents",
		"data.second: too_short: 3 documents", "data.first: held_out: ", "such as " + w.path("first.txt") + ", line 2, which is that of " + w.path("first.txt") + ", line 1"} {
		if !strings.Contains(out, part) {
			t.Errorf("%q does not say %q", out, part)
		}
	}
	_, path, _ := strings.Cut(out, "more examples: ")
	data, err := os.ReadFile(strings.SplitN(path, "\n", 2)[0])
	if err != nil {
		t.Fatal(err)
	}
	var report shard.CleanReport
	if err := json.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	if n := report.Count("exact_duplicate"); n != 20 || report.Count("in_eval_data") != 5 || report.Count("held_out")+report.Count("training") != 105 {
		t.Errorf("%s", report.String())
	}

	c, err := config.Decode([]byte(w.resolved(w.cleanedLines()...)))
	if err != nil {
		t.Fatal(err)
	}
	x, err := openText(c)
	if err != nil {
		t.Fatal(err)
	}
	defer x.tok.Close()
	var logs bytes.Buffer
	d, err := x.openCorpora(context.Background(), c, shardsDir(c), io.Discard, zerolog.New(&logs))
	defer d.close()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(logs.String(), "20 exact_duplicate") {
		t.Errorf("the log says %s", logs.String())
	}
	if len(d.eval) != 2 || d.eval[0].Name != "" || d.eval[1].Name != "validation" {
		t.Fatalf("evaluation sets %+v", d.eval)
	}
	training, eval, heldOut := texts(t, x, d.train), texts(t, x, d.eval[0].Samples), texts(t, x, d.eval[1].Samples)
	if int64(len(training)) != report.Count("training") || int64(len(heldOut)) != report.Count("held_out") || len(eval) != 5 {
		t.Errorf("%d texts to train on, %d held out, %d of eval_data: %s", len(training), len(heldOut), len(eval), report.String())
	}
	for s, n := range training {
		if eval[s] > 0 || heldOut[s] > 0 || n > 2 || len(s) < 3 {
			t.Errorf("%q is trained on %d times, and is %d times in eval_data and %d in what is held out", s, n, eval[s], heldOut[s])
		}
	}
	for s, n := range heldOut {
		if n != 1 {
			t.Errorf("%q is held out %d times", s, n)
		}
	}
	if digest, err := x.trainingDigest(c); err != nil || digest != d.train.Digest() {
		t.Errorf("ahead the digest is %s, %v; afterwards %s", digest, err, d.train.Digest())
	}
}

// A run evaluates on what is held out; it goes on as it was, and not with other documents.
func TestTrainingOnDocumentsThatCount(t *testing.T) {
	w := cleanedWorkspace(t)
	lines := w.cleanedLines("max_steps: 2", "save_steps: 1")
	if _, err := oneRank(t, w.resolved(lines...), nil); err != nil {
		t.Fatal(err)
	}
	metrics, err := os.ReadFile(w.path("runs/out/metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{`"eval_loss"`, `"eval_validation_loss"`} {
		if !strings.Contains(string(metrics), name) {
			t.Errorf("no %s in %s", name, metrics)
		}
	}
	more := w.cleanedLines("max_steps: 4", "save_steps: 1")
	if _, err := worker(w.resolved(more...), "check"); err != nil {
		t.Errorf("the same documents: %v", err)
	}
	before := w.tree()
	for _, change := range []struct{ line, said string }{
		{"deduplicate: none", "deduplicate"}, {"validation_split_percentage: 10", "validation_split_percentage"},
		{"min_document_tokens: 4", "min_document_tokens"}, {"eval_data: " + w.path("text.txt"), "or eval_data"}} {
		key, _, _ := strings.Cut(change.line, ":")
		changed := []string{change.line}
		for _, line := range more {
			if !strings.HasPrefix(line, key+":") {
				changed = append(changed, line)
			}
		}
		_, err := worker(w.resolved(changed...), "check")
		w.wantRefused(before, err, "cannot go on", change.said)
	}
	if _, err := oneRank(t, w.resolved(more...), nil); err != nil {
		t.Errorf("the run does not go on: %v", err)
	}
}

// A share that holds nothing out, or bounds that leave nothing, are refused and leave nothing.
func TestNoDocumentCounts(t *testing.T) {
	w := cleanedWorkspace(t)
	before := w.tree()
	for line, said := range map[string]string{
		"validation_split_percentage: 0.001": "to hold out",
		"min_document_tokens: 10000":         "133 too_short",
	} {
		key, _, _ := strings.Cut(line, ":")
		lines := []string{line}
		for _, old := range w.cleanedLines() {
			if !strings.HasPrefix(old, key+":") {
				lines = append(lines, old)
			}
		}
		_, err := worker(w.resolved(lines...), "check")
		w.wantRefused(before, err, "data: ", said)
	}
}
