package checkpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestSaveAndLoad(t *testing.T) {
	out, model := filepath.Join(t.TempDir(), "runs", "first"), modelDir(t)
	want := snapshot(t, model, 1000, 500)
	if err := Save(context.Background(), SaveConfig{OutputDir: out}, want); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(out, "checkpoint-1000")
	wantNames(t, out, ".ddprun", "checkpoint-1000")
	wantNames(t, filepath.Join(out, ".ddprun"))
	wantNames(t, dir, "config.json", "ddprun_state.json", "model.safetensors", "optimizer.safetensors",
		"tokenizer_config.json", "trainer_state.json", "vocab.txt")
	c, err := Load(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	checkTensors(t, c, want)
	if len(c.State.Files) != 6 || c.State.Version != FormatVersion {
		t.Errorf("state: %+v", c.State)
	}
	if c.Trainer.GlobalStep != 1000 || c.Trainer.Epoch != 0.5 || c.Trainer.LogHistory[0]["loss"] != 1.5 {
		t.Errorf("trainer state: %+v", c.Trainer)
	}
	var config bytes.Buffer
	if err := json.Compact(&config, c.State.Config); err != nil || config.String() != string(want.State.Config) {
		t.Errorf("the configuration came back as %s", c.State.Config)
	}
	got := c.State
	got.SHA256, got.Version, got.Files, got.Config = "", 0, nil, want.State.Config
	if !reflect.DeepEqual(got, want.State) {
		t.Errorf("state %+v, want %+v", got, want.State)
	}
}

// Going on from a checkpoint copies the tokenizer's files out of it, and none of its state.
func TestExtrasFromACheckpoint(t *testing.T) {
	out := t.TempDir()
	mustSave(t, out, 10)
	first := filepath.Join(out, "checkpoint-10")
	s := snapshot(t, modelDir(t), 20, 50)
	s.Model.Extras = first
	if err := Save(context.Background(), SaveConfig{OutputDir: out}, s); err != nil {
		t.Fatal(err)
	}
	a, b := tree(t, first), tree(t, filepath.Join(out, "checkpoint-20"))
	if a["vocab.txt"] != b["vocab.txt"] || a["trainer_state.json"] == b["trainer_state.json"] {
		t.Error("extras were not taken over")
	}
	final := t.TempDir()
	if err := SaveModel(context.Background(), final, 1, s.Model); err != nil {
		t.Fatal(err)
	}
	wantNames(t, final, ".ddprun", "config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt")
}

// Whatever keeps a checkpoint from being saved leaves everything as it was.
func TestSaveFails(t *testing.T) {
	model := modelDir(t)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		do   func(t *testing.T, c *SaveConfig, s *Snapshot)
		want string
	}{
		{"cancelled", cancelled, func(*testing.T, *SaveConfig, *Snapshot) {}, "context canceled"},
		{"not confirmed", context.Background(), func(_ *testing.T, c *SaveConfig, _ *Snapshot) {
			c.Confirm = func(context.Context) error { return errors.New("generation 4 has begun") }
		}, "generation 4"},
		{"bad tensor", context.Background(), func(_ *testing.T, _ *SaveConfig, s *Snapshot) {
			s.Optimizer[1].Data = s.Optimizer[1].Data[1:]
		}, "optimizer.safetensors"},
		{"no such extras", context.Background(), func(_ *testing.T, _ *SaveConfig, s *Snapshot) {
			s.Model.Extras = filepath.Join(model, "gone")
		}, "gone"},
		{"another program's", context.Background(), func(t *testing.T, c *SaveConfig, s *Snapshot) {
			s.State.Step = 30
		}, "another program's"},
		{"a file in the way", context.Background(), func(t *testing.T, c *SaveConfig, s *Snapshot) {
			s.State.Step = 40
		}, "checkpoint-40"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := t.TempDir()
			mustSave(t, out, 10)
			if err := os.Mkdir(filepath.Join(out, "checkpoint-30"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(out, "checkpoint-40"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			before := tree(t, out)
			config, s := SaveConfig{OutputDir: out}, snapshot(t, model, 20, 50)
			c.do(t, &config, &s)
			err := Save(c.ctx, config, s)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if after := tree(t, out); !reflect.DeepEqual(before, after) {
				t.Errorf("the output directory changed: %v", names(t, out))
			}
		})
	}
}

func TestSaveReplacesTheSameStep(t *testing.T) {
	out, model := t.TempDir(), modelDir(t)
	mustSave(t, out, 10)
	s := snapshot(t, model, 10, 50)
	s.State.Lanes = 99
	// The earlier one is complete and in place until the moment the new one is.
	config := SaveConfig{OutputDir: out, Confirm: func(context.Context) error {
		c, err := Load(context.Background(), filepath.Join(out, "checkpoint-10"))
		if err == nil && c.State.Lanes != 4 {
			t.Error("replaced before it was confirmed")
		}
		return err
	}}
	if err := Save(context.Background(), config, s); err != nil {
		t.Fatal(err)
	}
	c, err := Load(context.Background(), filepath.Join(out, "checkpoint-10"))
	if err != nil || c.State.Lanes != 99 {
		t.Errorf("not replaced: %v", err)
	}
	wantNames(t, filepath.Join(out, ".ddprun"))
}

func TestSaveReplacesADamagedOne(t *testing.T) {
	out := t.TempDir()
	mustSave(t, out, 10)
	flip(t, filepath.Join(out, "checkpoint-10", modelFile), 300)
	if err := Save(t.Context(), SaveConfig{OutputDir: out}, snapshot(t, modelDir(t), 10, 100)); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(context.Background(), filepath.Join(out, "checkpoint-10")); err != nil {
		t.Error(err)
	}
}
