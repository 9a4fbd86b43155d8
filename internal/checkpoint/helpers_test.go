package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/ddprun/ddprun/internal/hf"
)

// modelDir makes a directory with a configuration and a tokenizer's files.
func modelDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"config.json":           `{"model_type": "bert", "hidden_size": 4}`,
		"tokenizer_config.json": `{"do_lower_case": true}`,
		"vocab.txt":             "[PAD]\n[UNK]\nword\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tensor makes n floats that depend on the seed alone.
func tensor(name string, n int64, seed uint64) hf.Tensor {
	draws := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, 4*n)
	for i := range n {
		binary.LittleEndian.PutUint32(data[4*i:], draws.Uint32()&0x3fffffff)
	}
	return hf.Tensor{Name: name, DType: hf.F32, Shape: []int64{n}, Data: data}
}

// snapshot makes one that depends on the step alone.
func snapshot(t testing.TB, model string, step, elements int64) Snapshot {
	t.Helper()
	config, err := hf.ReadConfig(model)
	if err != nil {
		t.Fatal(err)
	}
	return Snapshot{
		Model: Model{
			Tensors: []hf.Tensor{tensor("bert.weight", elements, uint64(step))},
			Config:  config,
			Extras:  model,
		},
		Optimizer: []hf.Tensor{tensor("exp_avg", elements, uint64(step)+1), tensor("exp_avg_sq", elements, uint64(step)+2)},
		Trainer:   TrainerState{GlobalStep: step, Epoch: 0.5, LogHistory: []map[string]any{{"loss": 1.5, "step": step}}},
		State: State{
			Step: step, Epoch: 1, EpochStep: 2, Lanes: 4, Seeds: Seeds{42, 43, 1<<53 + 1}, Generation: 3,
			Environment: Environment{Ranks: 2, Threads: 1, Device: "cpu", Libtorch: "2.11.0"},
			Config:      json.RawMessage(`{"learning_rate":5e-05,"seed":9223372036854775807}`),
		},
	}
}

// mustSave leaves outputDir as saving the steps would. It copies what was saved once: waiting for the disk each time would
// be most of the tests' time.
func mustSave(t testing.TB, outputDir string, steps ...int64) {
	t.Helper()
	template := templates()
	if err := os.MkdirAll(filepath.Join(outputDir, privateDir), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		from := filepath.Join(template, Name(step))
		if !isDir(from) {
			if err := Save(t.Context(), SaveConfig{OutputDir: template}, snapshot(t, modelDir(t), step, 100)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.CopyFS(filepath.Join(outputDir, Name(step)), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
}

// templates is a directory of checkpoints to copy, which TestMain removes.
var templates = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "checkpoint-templates-")
	if err != nil {
		panic(err)
	}
	return dir
})

// tree returns every file below dir with its content; directories have a slash at their end.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if entry.IsDir() {
			out[name+"/"] = ""
			return nil
		}
		data, err := os.ReadFile(path)
		out[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// names lists what lies directly in dir.
func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func wantNames(t testing.TB, dir string, want ...string) {
	t.Helper()
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("%s holds %q, want %q", filepath.Base(dir), got, want)
	}
}

// flip changes one bit in the middle of a file.
func flip(t testing.TB, path string, at int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// checkTensors holds a loaded checkpoint against the snapshot of its step.
func checkTensors(t testing.TB, c *Checkpoint, want Snapshot) {
	t.Helper()
	model, err := c.Model()
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	optimizer, err := c.Optimizer()
	if err != nil {
		t.Fatal(err)
	}
	defer optimizer.Close()
	for weights, tensors := range map[*hf.Weights][]hf.Tensor{model: want.Model.Tensors, optimizer: want.Optimizer} {
		for _, w := range tensors {
			got, ok := weights.Tensor(w.Name)
			if !ok || got.DType != w.DType || !slices.Equal(got.Shape, w.Shape) || !bytes.Equal(got.Data, w.Data) {
				t.Errorf("%s: tensor %s is not the saved one", c.Path, w.Name)
			}
		}
	}
}
