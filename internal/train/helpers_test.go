package train

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/objectives"
	"github.com/ddprun/ddprun/shard"
)

// goldenModel is a random BERT of 2 layers, 32 dimensions, 97 tokens and 40 positions, and what PyTorch computes for it: see
// tools/golden/model_golden.py.
const goldenModel = "../model/testdata/bert-gelu"

// textModel is a T5 of the same sort, with 89 tokens: see tools/golden/make_t5_golden.py.
const textModel = "../model/testdata/t5-v1.1"

// modelCopy copies the golden model, with changes to its config.json as pairs of old and new text.
func modelCopy(t testing.TB, changes ...string) string { return copyOf(t, goldenModel, changes...) }

func copyOf(t testing.TB, model string, changes ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"config.json", "model.safetensors"} {
		content, err := os.ReadFile(filepath.Join(model, name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(content)
		if name == "config.json" {
			for i := 0; i < len(changes); i += 2 {
				if !strings.Contains(text, changes[i]) {
					t.Fatalf("config.json does not say %s", changes[i])
				}
				text = strings.Replace(text, changes[i], changes[i+1], 1)
			}
		}
		writeFile(t, filepath.Join(dir, name), text)
	}
	return dir
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// goldenObjectives are the golden models, one of each class and family, and what they train on.
var goldenObjectives = map[string]string{"bert-gelu": "mlm", "bert-nsp": "nsp", "bert-mlm-nsp": "mlm+nsp", "roberta": "mlm", "xlm-roberta": "mlm",
	"camembert": "mlm", "distilbert": "mlm", "electra": "mlm"}

// dry are the changes to the golden model's config.json that take its dropout away.
var dry = []string{`"hidden_dropout_prob": 0.1`, `"hidden_dropout_prob": 0`, `"attention_probs_dropout_prob": 0.1`, `"attention_probs_dropout_prob": 0`}

// dryOf are those for a golden model of any family.
func dryOf(model string) []string {
	if strings.HasSuffix(model, "/distilbert") {
		return []string{`"dropout": 0.1`, `"dropout": 0`, `"attention_dropout": 0.1`, `"attention_dropout": 0`}
	}
	return dry
}

// settings makes a configuration from key=value texts over what suits the tests here.
func settings(t testing.TB, model string, sets ...string) *config.Config {
	t.Helper()
	c, err := config.FromSets(append([]string{"model=" + model, "data=text.txt", "output_dir=" + filepath.Join(t.TempDir(), "out"), "device=cpu",
		"per_device_train_batch_size=2", "global_batch_size=4", "save_strategy=no", "logging_steps=1", "max_steps=10"}, sets...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// numbers is a tokenizer of a sort: a text is token ids.
type numbers struct{}

func (numbers) Digest() string { return "numbers" }
func (numbers) VocabSize() int { return 97 }
func (numbers) Encode(texts []string) ([]shard.Encoding, error) {
	out := make([]shard.Encoding, len(texts))
	for i, text := range texts {
		for _, field := range strings.Fields(text) {
			var id uint32
			if _, err := fmt.Sscan(field, &id); err != nil {
				return nil, err
			}
			out[i].IDs, out[i].WordStart = append(out[i].IDs, id), append(out[i].WordStart, true)
		}
	}
	return out, nil
}

// someSamples are n samples of 2 to 31 tokens.
func someSamples(t testing.TB, seed uint64, n int) *shard.Dataset {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	var text strings.Builder
	for range n {
		for range 2 + r.IntN(30) {
			fmt.Fprint(&text, 5+r.IntN(81), " ")
		}
		text.WriteString("\n")
	}
	return cut(t, text.String(), shard.PrepareConfig{TextUnit: shard.TextLine, SentenceUnit: shard.SentenceNone},
		shard.SampleConfig{Unit: shard.Document, MaxTokens: 38})
}

// cut prepares a text and cuts it into samples.
func cut(t testing.TB, text string, prepare shard.PrepareConfig, cfg shard.SampleConfig) *shard.Dataset {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "text.txt"), text)
	prepare.Dir, prepare.Paths, prepare.Encoder = filepath.Join(dir, "shards"), []string{filepath.Join(dir, "text.txt")}, numbers{}
	report, err := shard.Prepare(context.Background(), prepare)
	if err != nil {
		t.Fatal(err)
	}
	corpus, err := shard.Open(report.Dir, shard.OpenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	samples, err := corpus.Samples(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		samples.Close()
		corpus.Close()
	})
	set, err := shard.NewDataset(1, shard.Stream{Samples: samples})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// somePairs are n pairs of sentences of 1 to 30 tokens, in documents of 4 sentences.
func somePairs(t testing.TB, seed uint64, n int) *shard.Dataset {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	var text strings.Builder
	sentence := func() {
		for range 1 + r.IntN(30) {
			fmt.Fprint(&text, 5+r.IntN(92), " ")
		}
		text.WriteString("\n")
	}
	for i := range n {
		if i%3 == 0 { // a new document
			text.WriteString("\n")
			sentence()
		}
		sentence()
	}
	samples := cut(t, text.String(), shard.PrepareConfig{TextUnit: shard.TextParagraph, SentenceUnit: shard.SentenceLine},
		shard.SampleConfig{Unit: shard.Pair, MaxTokens: 37})
	if samples.Len() != int64(n) {
		t.Fatalf("%d pairs, want %d", samples.Len(), n)
	}
	return samples
}

// newJob is the one rank of a run on n samples.
func newJob(t testing.TB, c *config.Config, n int) *Job {
	t.Helper()
	vocab := objectives.Vocab{Size: 97, CLS: 2, SEP: 3, Mask: 4, Pad: 0, Special: []uint32{0, 1, 2, 3, 4}}
	mlm := objectives.MLMConfig{Probability: c.MLMProbability, MaskReplaceProb: c.MaskReplaceProb, RandomReplaceProb: c.RandomReplaceProb}
	job := &Job{Config: c, World: 1, Threads: 1, Log: zerolog.Nop(), Stop: make(chan struct{}), Beat: func(Phase, int64, int64) {}}
	var objective objectives.Objective
	var err error
	text := objectives.Vocab{Size: 89, CLS: objectives.NoToken, SEP: objectives.NoToken, Mask: objectives.NoToken, EOS: 1,
		Sentinels: []uint32{88, 87, 86}, Special: []uint32{0, 1, 2, 86, 87, 88}}
	switch {
	case c.Objective == "reconstruction":
		job.Train = someSamples(t, 1, n)
		objective, err = objectives.NewReconstruction(objectives.ReconstructionConfig{Probability: c.PerturbationProbability,
			Perturbation: objectives.Perturbation(c.Perturbation), WordOrder: objectives.WordOrder(c.WordOrder)}, text)
	case c.Objective == "span_corruption":
		job.Train = someSamples(t, 1, n)
		objective, err = objectives.NewSpanCorruption(objectives.SpanConfig{Density: c.NoiseDensity, MeanLength: c.MeanNoiseSpanLength}, text)
	case c.Pairs():
		pair := objectives.PairConfig{MaxTokens: 40}
		task, withMLM := strings.CutPrefix(c.Objective, "mlm+")
		if pair.Task = objectives.PairTask(task); withMLM {
			pair.MLM = &mlm
		}
		job.Train = somePairs(t, 1, n)
		objective, err = objectives.NewPair(pair, vocab)
	default:
		job.Train = someSamples(t, 1, n)
		objective, err = objectives.NewMLM(mlm, vocab)
	}
	if err == nil {
		job.Objectives, err = objectives.NewMixture(objectives.Part{Objective: objective, Name: c.Objective, Weight: 1, LossWeight: 1})
	}
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// golden is what tools/golden/make_model_golden.py wrote.
type golden struct {
	t testing.TB
	w *hf.Weights
}

func openGolden(t testing.TB) golden { return openGoldenOf(t, goldenModel) }

func openGoldenOf(t testing.TB, model string) golden {
	t.Helper()
	w, err := hf.OpenSafetensors(filepath.Join(model, "golden.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return golden{t, w}
}

func (g golden) tensor(name string) hf.Tensor {
	g.t.Helper()
	x, found := g.w.Tensor(name)
	if !found {
		g.t.Fatalf("the golden file lacks %s", name)
	}
	return x
}

func (g golden) floats(name string) []float32 {
	g.t.Helper()
	x := g.tensor(name)
	out := make([]float32, x.Elements())
	if err := x.AsFloat32(out); err != nil {
		g.t.Fatal(err)
	}
	return out
}

func (g golden) ints(name string) []int64 {
	g.t.Helper()
	x := g.tensor(name)
	out := make([]int64, x.Elements())
	for i := range out {
		if x.DType == hf.I32 {
			out[i] = int64(int32(binary.LittleEndian.Uint32(x.Data[4*i:])))
		} else {
			out[i] = int64(binary.LittleEndian.Uint64(x.Data[8*i:]))
		}
	}
	return out
}

func (g golden) batch(prefix string) *objectives.Batch {
	g.t.Helper()
	some := func(name string) []int64 {
		if _, found := g.w.Tensor(prefix + name); !found {
			return nil
		}
		return g.ints(prefix + name)
	}
	b := &objectives.Batch{IDs: g.ints(prefix + "ids"), Positions: g.ints(prefix + "positions"), TypeIDs: g.ints(prefix + "token_types"),
		Labelled: some("labelled"), Labels: some("labels"), PairSamples: some("pair_samples"), PairLabels: some("pair_labels")}
	for _, o := range g.ints(prefix + "offsets") {
		b.Offsets = append(b.Offsets, int32(o))
	}
	b.SampleIDs = make([]uint64, len(b.Offsets)-1)
	return b
}
