package checkpoint

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/hf"
)

func TestSaveModel(t *testing.T) {
	out, model := t.TempDir(), modelDir(t)
	for step := range int64(2) { // the second replaces the first
		m := snapshot(t, model, step, 200).Model
		if err := SaveModel(context.Background(), out, 1, m); err != nil {
			t.Fatal(err)
		}
		weights, err := hf.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := weights.Tensor("bert.weight")
		if want := m.Tensors[0]; !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("step %d: another tensor came back", step)
		}
		weights.Close()
		wantNames(t, out, privateDir, "config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt")
		wantNames(t, filepath.Join(out, privateDir), manifestFile)
	}
	files, err := readManifest(out)
	if err != nil || len(files) != 4 {
		t.Errorf("manifest %v, error %v", files, err)
	}
}

// Before config.json is replaced the weights are, and before anything is replaced the manifest knows it.
func TestInstallOrder(t *testing.T) {
	order := []string{"vocab.txt", modelFile, configFile}
	for i := range order[1:] {
		if installRank(order[i]) >= installRank(order[i+1]) {
			t.Errorf("%s does not come before %s", order[i], order[i+1])
		}
	}
	out, model := t.TempDir(), modelDir(t)
	if err := os.Mkdir(filepath.Join(out, modelFile), 0o755); err != nil { // stops install in the middle
		t.Fatal(err)
	}
	err := SaveModel(context.Background(), out, 1, snapshot(t, model, 1, 10).Model)
	if err == nil || !strings.Contains(err.Error(), modelFile) {
		t.Errorf("error %v", err)
	}
	wantNames(t, out, privateDir, modelFile, "tokenizer_config.json", "vocab.txt")
	if files, err := readManifest(out); err != nil || len(files) != 4 {
		t.Errorf("manifest %v, error %v", files, err)
	}
}

func TestManifestThatLies(t *testing.T) {
	for text, want := range map[string]string{"{": "model.json", `{"../x": {}}`: "lies elsewhere", "": "model.json"} {
		out := t.TempDir()
		if err := os.Mkdir(filepath.Join(out, privateDir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(out, privateDir, manifestFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Decide(context.Background(), out, ResumeAuto, true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v", text, err)
		}
		if err := Clear(out, 1); err == nil {
			t.Errorf("%q: cleared", text)
		}
	}
}
