package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/train"
)

// evalResult is what eval prints.
type evalResult struct {
	Model        string
	Loss         float64
	Perplexity   float64
	Accuracy     float64
	MaskedTokens int64 `json:"masked_tokens"`
	Samples      int64
}

func (w *workspace) eval(args ...string) evalResult {
	w.t.Helper()
	out, err := worker("", append([]string{"eval", w.path("model"), "--data", w.path("text.txt"), "--threads", "1"}, args...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	var r evalResult
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		w.t.Fatalf("%q: %v", out, err)
	}
	return r
}

func TestEvalPredictions(t *testing.T) {
	w := newWorkspace(t)
	before := w.tree()
	plain := w.eval()
	if after := w.tree(); after != before {
		t.Errorf("eval left something:\nbefore:\n%safter:\n%s", before, after)
	}
	r := w.eval("--predictions", w.path("predictions.jsonl"))
	if r != plain {
		t.Errorf("with predictions %+v, without %+v", r, plain)
	}
	if r.Samples != 40 || r.MaskedTokens < 40 || math.Abs(r.Perplexity-math.Exp(r.Loss)) > 1e-9*r.Perplexity {
		t.Errorf("got %+v", r)
	}
	// A model that knows nothing gives each of 4,096 tokens about the same probability.
	if math.Abs(r.Loss-math.Log(4096)) > 0.5 {
		t.Errorf("loss %v at random, %v if all tokens are alike", r.Loss, math.Log(4096))
	}
	raw, err := os.ReadFile(w.path("predictions.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(w.path("text.txt"))
	if err != nil {
		t.Fatal(err)
	}
	joined := func(s string) string { return strings.NewReplacer(" ", "", "##", "", "\n", "").Replace(s) }
	var right, lines int64
	perSample := map[int64]int64{}
	for line := range strings.Lines(string(raw)) {
		var p predictionLine
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatal(err)
		}
		lines++
		if p.Want == "" || p.Got == "" {
			t.Errorf("%s: nothing is wanted or got", line)
		}
		if p.Got == p.Want {
			right++
		}
		if !strings.Contains(joined(string(text)), joined(p.Before+p.Want+p.After)) {
			t.Errorf("%s: not in the text", line)
		}
		if last, seen := perSample[p.Sample]; seen && p.Token <= last {
			t.Errorf("%s: after token %d of the sample", line, last)
		}
		perSample[p.Sample] = p.Token
	}
	if lines != r.MaskedTokens || int64(len(perSample)) != r.Samples {
		t.Errorf("%d predictions of %d samples, want %d of %d", lines, len(perSample), r.MaskedTokens, r.Samples)
	}
	if share := float64(right) / float64(lines); math.Abs(share-r.Accuracy) > 1e-12 {
		t.Errorf("%v of the predictions are right, the accuracy is %v", share, r.Accuracy)
	}
}

func TestEvalRefuses(t *testing.T) {
	w := newWorkspace(t)
	w.write("empty.txt", "")
	model, data := w.path("model"), w.path("text.txt")
	before := w.tree()
	for name, c := range map[string]struct{ args, said []string }{
		"no model":        {nil, []string{"model directory"}},
		"two models":      {[]string{model, model}, []string{"model directory"}},
		"no data":         {[]string{model}, []string{"--data"}},
		"unknown flag":    {[]string{model, "--dat", data}, []string{"--dat"}},
		"no such model":   {[]string{w.path("nowhere"), "--data", data}, []string{"nowhere"}},
		"no such text":    {[]string{model, "--data", w.path("nowhere.txt")}, []string{"nowhere.txt"}},
		"empty text":      {[]string{model, "--data", w.path("empty.txt")}, []string{"empty.txt"}},
		"second text":     {[]string{model, "--data", data, "--data", w.path("nowhere.txt")}, []string{"nowhere.txt"}},
		"unknown key":     {[]string{model, "--data", data, "--set", "text_unt=line"}, []string{"text_unit"}},
		"threads 0":       {[]string{model, "--data", data, "--threads", "0"}, []string{"--threads", "0"}},
		"threads below 0": {[]string{model, "--data", data, "--threads", "-1"}, []string{"--threads", "-1"}},
		"predictions":     {[]string{model, "--data", data, "--predictions", w.path("nowhere/p")}, []string{"nowhere/p"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := worker("", slices.Concat([]string{"eval"}, c.args)...)
			here := &workspace{t, w.dir}
			here.wantRefused(before, err, c.said...)
		})
	}
}

// A special token that the model says is written as it is.
func TestPredictionOfASpecialToken(t *testing.T) {
	w := newWorkspace(t)
	c, err := config.Decode([]byte(w.resolved()))
	if err != nil {
		t.Fatal(err)
	}
	text, err := openText(c)
	if err != nil {
		t.Fatal(err)
	}
	defer text.tok.Close()
	encoded, err := text.Encode([]string{"the lazy dog"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := text.writePredictions(&out)(train.Prediction{Sample: 3, Tokens: encoded[0].IDs, At: 0, Got: text.vocab.CLS}); err != nil {
		t.Fatal(err)
	}
	var p predictionLine
	if err := json.Unmarshal(out.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	if p.Sample != 3 || p.Token != 0 || p.Want != "the" || p.Got != "[CLS]" || p.Before != "" {
		t.Errorf("got %+v", p)
	}
}

func TestEvalOfBrokenWeights(t *testing.T) {
	w := newWorkspace(t)
	bias := bytes.Repeat([]byte{0, 0, 0xc0, 0x7f}, 4096) // NaN
	err := hf.WriteSafetensors(w.path("model/model.safetensors"),
		[]hf.Tensor{{Name: "cls.predictions.bias", DType: hf.F32, Shape: []int64{4096}, Data: bias}}, map[string]string{"format": "pt"})
	if err != nil {
		t.Fatal(err)
	}
	before := w.tree()
	out, err := worker("", "eval", w.path("model"), "--data", w.path("text.txt"), "--threads", "1")
	w.wantRefused(before, err, w.path("model"), "NaN")
	if out != "" {
		t.Errorf("printed %q", out)
	}
}
