package model

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/torch"
	"github.com/ddprun/ddprun/objectives"
)

var targets = Heads{Targets: true}

// seq2seqBatch reads a micro-batch that tools/golden/make_t5_golden.py wrote.
func (g golden) seq2seqBatch(prefix string) *objectives.Batch {
	return &objectives.Batch{IDs: g.ints(prefix + "ids"), Offsets: g.offsets(prefix + "offsets"), DecoderIDs: g.ints(prefix + "decoder_ids"),
		DecoderOffsets: g.offsets(prefix + "decoder_offsets"), Targets: g.ints(prefix + "targets")}
}

// batchFor reads the first micro-batch of a model with these heads.
func (g golden) batchFor(heads Heads) *objectives.Batch {
	if heads.Targets {
		return g.seq2seqBatch("")
	}
	return g.batch("")
}

func (g golden) offsets(name string) []int32 {
	var out []int32
	for _, o := range g.ints(name) {
		out = append(out, int32(o))
	}
	return out
}

// withT5 runs f for each golden T5.
func withT5(t *testing.T, f func(t *testing.T, dir string, g golden)) {
	paths, _ := filepath.Glob("testdata/*/seq2seq.safetensors")
	if len(paths) < 7 {
		t.Fatalf("found %d golden files", len(paths))
	}
	for _, path := range paths {
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) { f(t, filepath.Dir(path), openGolden(t, path)) })
	}
}

func TestT5Goldens(t *testing.T) {
	withT5(t, func(t *testing.T, dir string, g golden) {
		err := torch.Do(func(s *torch.Scope) error {
			m, report, grads := loadModel(t, s, dir, targets)
			if len(report.NewlyInitialised) > 0 || len(report.Unused) > 0 {
				t.Errorf("new %q, unused %q", report.NewlyInitialised, report.Unused)
			}
			b := g.seq2seqBatch("")
			logits, pairs := m.Logits(s, b)
			closeTo(t, "logits", logits.Float32s(), g.floats("logits"), 1e-4)
			terms := m.Losses(s, b, Pass{})
			if len(terms) != 1 || terms[0].Count != int64(len(b.Targets)) || pairs.Defined() {
				t.Fatalf("%d terms of %d losses for %d targets", len(terms), terms[0].Count, len(b.Targets))
			}
			closeTo(t, "loss_sum", []float32{float32(terms[0].Sum.Value())}, g.floats("loss_sum"), 1e-3)
			loss := s.MulScalar(terms[0].Sum, 1/float64(terms[0].Count))
			closeTo(t, "mean loss", []float32{float32(loss.Value())}, g.floats("loss_mean"), 1e-4)
			smoothed := m.Losses(s, b, Pass{LabelSmoothing: 0.1})[0]
			closeTo(t, "smoothed loss", []float32{float32(smoothed.Sum.Value()) / float32(smoothed.Count)}, g.floats("smoothed_loss"), 1e-4)
			loss.Backward()
			checkGradients(t, m, grads, g)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// Ten steps of AdamW with dropout 0 give PyTorch's losses, and where the golden file has them its final weights.
func TestT5TenSteps(t *testing.T) {
	withT5(t, func(t *testing.T, dir string, g golden) {
		err := torch.Do(func(s *torch.Scope) error {
			m, _, grads := loadModel(t, s, dir, targets)
			params := m.(*t5).params
			rates, losses := g.floats("lr"), g.floats("losses")
			var groups [2]struct{ params, grads, first, second []torch.Tensor } // with and without weight decay
			for i, spec := range m.Specs() {
				group := &groups[0]
				if strings.Contains(spec.Name, "norm") || strings.Contains(spec.Name, "bias") {
					group = &groups[1]
				}
				group.params, group.grads = append(group.params, params[spec.Name]), append(group.grads, grads[i])
				group.first = append(group.first, s.Zeros(torch.Float32, spec.Shape...))
				group.second = append(group.second, s.Zeros(torch.Float32, spec.Shape...))
			}
			for k := range losses {
				loss := 0.0
				if err := torch.Do(func(s *torch.Scope) error {
					term := m.Losses(s, g.seq2seqBatch(fmt.Sprintf("batch.%d.", k)), Pass{})[0]
					mean := s.MulScalar(term.Sum, 1/float64(term.Count))
					loss = mean.Value()
					mean.Backward()
					return nil
				}); err != nil {
					return err
				}
				if d := math.Abs(loss - float64(losses[k])); !(d <= 1e-4) {
					t.Errorf("step %d: loss %v, PyTorch's %v", k, loss, losses[k])
				}
				clip(t, grads, float64(g.floats("grad_norm")[k]))
				for i, decay := range []float64{0.01, 0} {
					a := torch.AdamW{LearningRate: float64(rates[k]), Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: decay}
					if err := torch.FusedAdamW(groups[i].params, groups[i].grads, groups[i].first, groups[i].second, int64(k+1), a); err != nil {
						return err
					}
				}
				for _, x := range grads {
					clear(x.Float32s())
				}
			}
			for _, spec := range m.Specs() {
				if name := "final." + spec.Name; g.has(name) {
					closeTo(t, name, params[spec.Name].Float32s(), g.floats(name), 1e-4)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// clip scales gradients whose norm is above 1 to the norm 1, and compares the norm. With these weights PyTorch's own, in float32, is up to 1.3e-4
// from what it computes in float64.
func clip(t *testing.T, grads []torch.Tensor, want float64) {
	t.Helper()
	square := 0.0
	for _, g := range grads {
		for _, x := range g.Float32s() {
			square += float64(x) * float64(x)
		}
	}
	norm := math.Sqrt(square)
	if !(math.Abs(norm/want-1) <= 5e-4) {
		t.Errorf("the gradient's norm is %v, PyTorch's %v", norm, want)
	}
	if norm <= 1 {
		return
	}
	for _, g := range grads {
		if err := g.Scale(1 / (norm + 1e-6)); err != nil {
			t.Fatal(err)
		}
	}
}

// Greedy decoding gives what transformers' generate gives.
func TestT5GreedyDecode(t *testing.T) {
	withT5(t, func(t *testing.T, dir string, g golden) {
		err := torch.Do(func(s *torch.Scope) error {
			m, _, _ := loadModel(t, s, dir, targets)
			b := g.seq2seqBatch("")
			before := torch.Live()
			got, err := m.(Decoder).GreedyDecode(&objectives.Batch{IDs: b.IDs, Offsets: b.Offsets}, 12)
			if err != nil {
				return err
			}
			if live := torch.Live(); live != before {
				t.Errorf("%d tensors are left", live-before)
			}
			offsets, want := g.ints("generated_offsets"), g.ints("generated")
			for i, said := range got {
				if w := want[offsets[i]:offsets[i+1]]; !slices.Equal(said, w) {
					t.Errorf("sample %d: %d, transformers says %d", i, said, w)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// Dropout is a function of its key: the same losses and gradients again, others under another step, and the mean near the loss without.
func TestT5Dropout(t *testing.T) {
	dir := "testdata/t5-v1.1"
	g := openGolden(t, dir+"/seq2seq.safetensors")
	err := torch.Do(func(s *torch.Scope) error {
		m, _, grads := loadModel(t, s, dir, targets)
		b := g.seq2seqBatch("")
		run := func(step uint32, train bool) (loss float64, gradients [][]float32) {
			for _, x := range grads {
				clear(x.Float32s())
			}
			term := m.Losses(s, b, Pass{Train: train, Dropout: torch.DropoutKey{Seed: 7, Step: step}})[0]
			term.Sum.Backward()
			for _, x := range grads {
				gradients = append(gradients, slices.Clone(x.Float32s()))
			}
			return term.Sum.Value(), gradients
		}
		one, oneGrads := run(1, true)
		again, againGrads := run(1, true)
		two, _ := run(2, true)
		plain, _ := run(1, false)
		if one != again || !slices.EqualFunc(oneGrads, againGrads, slices.Equal[[]float32]) {
			t.Errorf("the same key gives %v and %v, or other gradients", one, again)
		}
		if one == two || one == plain {
			t.Errorf("losses under keys 1 and 2 are %v and %v, without dropout %v", one, two, plain)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// No two dropouts of a pass share a site, and a pass uses as many as transformers has modules that drop.
func TestT5DropoutSites(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		m, _, _ := loadModel(t, s, "testdata/t5-headless", targets)
		model := m.(*t5)
		b := openGolden(t, "testdata/t5-headless/seq2seq.safetensors").seq2seqBatch("")
		drop := model.dropouts(Pass{Train: true})
		memory := &t5Memory{offsets: s.Offsets(b.Offsets), states: model.run(s, model.encoder(), b.IDs, s.Offsets(b.Offsets), nil, drop), keys: model.memoryKeys}
		encoder := drop.site
		model.run(s, model.decoder(), b.DecoderIDs, s.Offsets(b.DecoderOffsets), memory, drop)
		// The embeddings and the output of each stack; probabilities and outputs of attentions; inside and after the feed-forward layer.
		if want := uint16(2 + 4*1); encoder != want {
			t.Errorf("the encoder drops in %d places, want %d", encoder, want)
		}
		if got, want := drop.site-encoder, uint16(2+6*3); got != want {
			t.Errorf("the decoder drops in %d places, want %d", got, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What is saved loads in transformers without a missing key and gives the same loss.
func TestT5LoadsInTransformers(t *testing.T) {
	python := os.Getenv("DDPRUN_REFERENCE_PYTHON")
	if python == "" {
		t.Skip("DDPRUN_REFERENCE_PYTHON is not set: make test sets it to a Python with transformers")
	}
	var dirs, goldens []string
	for _, name := range []string{"t5-v1.0", "t5-v1.1-old-config", "t5-headless", "t5-mt5"} {
		source := filepath.Join("testdata", name)
		dirs, goldens = append(dirs, t.TempDir()), append(goldens, filepath.Join(source, "seq2seq.safetensors"))
		saveAgain(t, source, dirs[len(dirs)-1])
	}
	args := slices.Concat([]string{"../../tools/golden/make_t5_golden.py", "--check"}, dirs, []string{"--golden"}, goldens)
	if out, err := exec.Command(python, args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// saveAgain loads the model of a directory and saves it into another.
func saveAgain(t *testing.T, source, dir string) {
	t.Helper()
	err := torch.Do(func(s *torch.Scope) error {
		m, _, _ := loadModel(t, s, source, targets)
		var tensors []hf.Tensor
		for _, spec := range m.Specs() {
			x := m.(*t5).params[spec.Name].Float32s()
			data := unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x))
			tensors = append(tensors, hf.Tensor{Name: spec.Name, DType: hf.F32, Shape: spec.Shape, Data: data})
		}
		if err := hf.WriteSafetensors(filepath.Join(dir, "model.safetensors"), tensors, map[string]string{"format": "pt"}); err != nil {
			return err
		}
		cfg, err := hf.ReadConfig(source)
		if err != nil {
			return err
		}
		if err := cfg.Set("architectures", []string{m.Architecture()}); err != nil {
			return err
		}
		return cfg.Write(filepath.Join(dir, "config.json"))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A head of its own is decided by the weights: not by a file without one, nor by one that has the embeddings twice.
func TestT5Tied(t *testing.T) {
	dir := t.TempDir()
	raw, err := os.ReadFile("testdata/t5-v1.0/config.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	tensor := func(name string, value byte) hf.Tensor {
		return hf.Tensor{Name: name, DType: hf.F32, Shape: []int64{1}, Data: []byte{value, 0, 0, 0}}
	}
	for _, c := range []struct {
		tensors []hf.Tensor
		tied    bool
	}{
		{nil, true}, // no file
		{[]hf.Tensor{tensor(t5Shared, 1)}, true},
		{[]hf.Tensor{tensor(t5Head, 1)}, true},
		{[]hf.Tensor{tensor(t5Shared, 1), tensor(t5Head, 1)}, true},
		{[]hf.Tensor{tensor(t5Shared, 1), tensor(t5Head, 2)}, false},
	} {
		if c.tensors != nil {
			if err := hf.WriteSafetensors(filepath.Join(dir, "model.safetensors"), c.tensors, nil); err != nil {
				t.Fatal(err)
			}
		}
		m := newModel(t, dir, targets)
		if got := m.(*t5).c.tied; got != c.tied {
			t.Errorf("with %d tensors tied is %v", len(c.tensors), got)
		}
		if has := m.Specs()[len(m.Specs())-1].Name == t5Head; has == c.tied {
			t.Errorf("tied %v, and its own head %v", c.tied, has)
		}
	}
}

func TestT5Configurations(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		config string
		heads  Heads
		want   string // the error; "": none
		scaled bool
		start  int64
	}{
		{`{"model_type": "t5"}`, targets, "", true, 0},
		{`{"model_type": "t5", "tie_word_embeddings": false}`, targets, "", false, 0},
		{`{"model_type": "t5", "tie_word_embeddings": null}`, targets, "", true, 0},
		{`{"model_type": "t5", "tie_word_embeddings": false, "scale_decoder_outputs": true}`, targets, "", true, 0},
		{`{"model_type": "t5", "tie_word_embeddings": true, "scale_decoder_outputs": false}`, targets, "", false, 0},
		{`{"model_type": "mt5", "tie_word_embeddings": true, "decoder_start_token_id": 7}`, targets, "", false, 7},
		{`{"model_type": "t5", "pad_token_id": 3}`, targets, "", true, 3},
		{`{"model_type": "t5", "feed_forward_proj": "gated-tanh"}`, targets, `feed_forward_proj "gated-tanh" is not supported`, false, 0},
		{`{"model_type": "t5", "relative_attention_max_distance": 16}`, targets, "relative_attention_max_distance is 16", false, 0},
		{`{"model_type": "t5", "num_decoder_layers": 5000}`, targets, "num_decoder_layers is 5000", false, 0},
		{`{"model_type": "t5", "decoder_start_token_id": 32128}`, targets, "decoder_start_token_id is 32128", false, 0},
		{`{"model_type": "t5"}`, Heads{Tokens: true}, "no head for masked tokens", false, 0},
		{`{"model_type": "bert"}`, targets, "has no decoder", false, 0},
	} {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(c.config), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := hf.ReadConfig(dir)
		if err != nil {
			t.Fatal(err)
		}
		m, err := New(cfg, c.heads)
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%s: %v, want %q", c.config, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.config, err)
			continue
		}
		if d := m.(Decoder); d.(*t5).c.scaled != c.scaled || d.DecoderStart() != c.start {
			t.Errorf("%s: scaled %v, start %d", c.config, d.(*t5).c.scaled, d.DecoderStart())
		}
	}
}

// Parameters that a checkpoint lacks begin as transformers' _init_weights draws them.
func TestT5Init(t *testing.T) {
	var fields map[string]any
	raw, err := os.ReadFile("testdata/t5-v1.1/config.json")
	if err == nil {
		err = json.Unmarshal(raw, &fields)
	}
	if err != nil {
		t.Fatal(err)
	}
	fields["initializer_factor"] = 0.5
	raw, _ = json.Marshal(fields)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	m := newModel(t, dir, targets)
	want := map[string]Init{"shared": {Std: 0.5}, "q": {Std: 0.5 / math.Sqrt(24*8)}, "k": {Std: 0.5 / math.Sqrt(24)}, "v": {Std: 0.5 / math.Sqrt(24)},
		"o": {Std: 0.5 / math.Sqrt(32)}, "relative_attention_bias": {Std: 0.5 / math.Sqrt(24)}, "wi_0": {Std: 0.5 / math.Sqrt(24)},
		"wi_1": {Std: 0.5 / math.Sqrt(24)}, "wo": {Std: 0.5 / math.Sqrt(40)}, "layer_norm": {Value: 0.5}, "final_layer_norm": {Value: 0.5}}
	for _, s := range m.Specs() {
		parts := strings.Split(s.Name, ".")
		w, found := want[parts[len(parts)-2]]
		if !found || math.Abs(s.Init.Std-w.Std) > 1e-12 || s.Init.Value != w.Value || s.Init.ZeroRow != -1 {
			t.Errorf("%s begins as %+v, want %+v", s.Name, s.Init, w)
		}
	}
}
