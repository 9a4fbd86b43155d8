package examples

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/internal/hf"
)

// TestConfigurationsLoad: every YAML file here is a configuration that ddprun takes as it stands.
func TestConfigurationsLoad(t *testing.T) {
	paths, err := filepath.Glob("*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatal("no configuration found")
	}
	for _, path := range paths {
		loaded, err := config.Load(path, nil, nil)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		for _, note := range loaded.Notes {
			t.Errorf("%s: an example should give rise to no note: %s", path, note)
		}
	}
}

// TestReadmeConfiguration: what README.md shows as a configuration is one, and says nothing that needs a note.
func TestReadmeConfiguration(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "```yaml\n")
	shown, _, ended := strings.Cut(rest, "```")
	if !found || !ended {
		t.Fatal("README.md shows no YAML")
	}
	path := filepath.Join(t.TempDir(), "train.yaml")
	if err := os.WriteFile(path, []byte(shown), 0o644); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(path, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, note := range loaded.Notes {
		t.Errorf("gives rise to a note: %s", note)
	}
	if _, err := loaded.Config.Lanes(2); err != nil {
		t.Errorf("on two ranks: %v", err)
	}
}

// TestModelFitsTokenizer: the base model's embedding has a row for each token, neither more nor fewer, and the windows of
// the pre-training fit its positions.
func TestModelFitsTokenizer(t *testing.T) {
	model, err := hf.ReadConfig("tiny-bert/model")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := model.Int("vocab_size", 0)
	if err != nil {
		t.Fatal(err)
	}
	vocabulary := readVocabulary(t, "tiny-bert/model/tokenizer.json")
	if len(vocabulary) != rows {
		t.Errorf("tokenizer.json has %d tokens, config.json says %d", len(vocabulary), rows)
	}
	seen := make(map[int]bool)
	for token, id := range vocabulary {
		if id < 0 || id >= rows || seen[id] {
			t.Errorf("token %q: id %d is out of range or used twice", token, id)
		}
		seen[id] = true
	}
	positions, err := model.Int("max_position_embeddings", 0)
	if err != nil {
		t.Fatal(err)
	}
	run, err := config.Load("tiny-bert/pretrain.yaml", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if run.Config.MaxSeqLength > positions {
		t.Errorf("max_seq_length is %d, the model has %d positions", run.Config.MaxSeqLength, positions)
	}
}

func readVocabulary(t *testing.T, path string) map[string]int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var tokenizer struct {
		Model struct {
			Vocab map[string]int `json:"vocab"`
		} `json:"model"`
	}
	if err := json.Unmarshal(data, &tokenizer); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return tokenizer.Model.Vocab
}
