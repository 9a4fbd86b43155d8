package checkpoint

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// put writes a small file, with the directories it needs.
func put(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// scene makes an output directory out of words: a checkpoint's step, "20!" for a damaged one, "model" for a finished run's,
// any other for a file.
func scene(t *testing.T, words string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	for _, word := range strings.Fields(words) {
		switch number, damaged := strings.CutSuffix(word, "!"); {
		case word == "empty":
			if err := os.Mkdir(out, 0o755); err != nil {
				t.Fatal(err)
			}
		case word == "model":
			if err := SaveModel(context.Background(), out, 1, snapshot(t, modelDir(t), 1, 10).Model); err != nil {
				t.Fatal(err)
			}
		case number[0] >= '0' && number[0] <= '9':
			step := map[string]int64{"10": 10, "20": 20, "30": 30}[number]
			mustSave(t, out, step)
			if damaged {
				flip(t, filepath.Join(out, Name(step), modelFile), 200)
			}
		default:
			put(t, filepath.Join(out, word))
		}
	}
	return out
}

func TestDecide(t *testing.T) {
	const hint = "overwrite_output_dir: true"
	for _, c := range []struct {
		scene, mode string // mode "@20": the output directory's checkpoint-20; "link": a link to it; "elsewhere": another run's
		overwrite   bool
		resume      int64 // -1: none
		clear       bool
		broken      int
		refused     []string
	}{
		{scene: "", mode: "auto", resume: -1},
		{scene: "empty", mode: "auto", resume: -1},
		{scene: "empty", mode: "none", resume: -1},
		{scene: "logs/attempt_1/0/stdout.log metrics.jsonl .ddprun/generation-1 lost+found/x .gitkeep", mode: "none", resume: -1},
		{scene: "10 20", mode: "auto", resume: 20},
		{scene: "10 20", mode: "auto", overwrite: true, resume: 20},
		{scene: "10 20 model notes.txt", mode: "auto", resume: 20},
		{scene: "10 20!", mode: "auto", resume: 10, broken: 1},
		{scene: "10! 20!", mode: "auto", refused: []string{"checkpoint-10", "checkpoint-20", hint}},
		{scene: "10! 20!", mode: "auto", overwrite: true, resume: -1, clear: true, broken: 2},
		{scene: "model", mode: "auto", refused: []string{"finished run", hint}},
		{scene: "model", mode: "auto", overwrite: true, resume: -1, clear: true},
		{scene: "model", mode: "none", refused: []string{"finished run", hint}},
		{scene: "thesis.tex", mode: "auto", refused: []string{"thesis.tex", hint}},
		{scene: "a b c d e", mode: "none", refused: []string{"(a, b, c, ...)", hint}},
		{scene: "thesis.tex", mode: "auto", overwrite: true, resume: -1},
		{scene: "config.json model.safetensors", mode: "auto", refused: []string{"config.json", "did not write"}},
		{scene: "10 20", mode: "none", refused: []string{"checkpoint-20", "auto", hint}},
		{scene: "10 20", mode: "none", overwrite: true, resume: -1, clear: true},
		{scene: "10! thesis.tex", mode: "none", refused: []string{"checkpoint-10", hint}},
		{scene: "10 20", mode: "@20", resume: 20},
		{scene: "10 20 model notes.txt", mode: "@20", resume: 20},
		{scene: "10 20", mode: "@10", refused: []string{"holds checkpoint-20", "would replace", "another output_dir"}},
		{scene: "10 20", mode: "@30", refused: []string{"resume_from_checkpoint", "checkpoint-30"}},
		{scene: "10 20!", mode: "@20", refused: []string{"resume_from_checkpoint", "model.safetensors is damaged"}},
		{scene: "10 20!", mode: "@10", refused: []string{"holds checkpoint-20"}},
		{scene: "empty", mode: "elsewhere", resume: 20},
		{scene: "10", mode: "elsewhere", refused: []string{"holds checkpoint-10", "another output_dir"}},
		{scene: "model", mode: "elsewhere", refused: []string{"not empty", "another output_dir"}},
		{scene: "thesis.tex", mode: "elsewhere", refused: []string{"not empty", "another output_dir"}},
		{scene: "20", mode: "link", resume: 20},
		{scene: "10 checkpoint-30/trainer_state.json", mode: "auto", refused: []string{"checkpoint-30", "another program's"}},
		{scene: "checkpoint-30/config.json", mode: "auto", refused: []string{"checkpoint-30", "name it as model"}},
		{scene: "checkpoint-30/config.json", mode: "none", overwrite: true, refused: []string{"another program's", "move it away"}},
		{scene: "20 checkpoint-5/config.json", mode: "auto", resume: 20},
	} {
		name := strings.ReplaceAll(c.scene+" "+c.mode, "/", "_")
		t.Run(name, func(t *testing.T) {
			out, mode := scene(t, c.scene), c.mode
			if step, ok := strings.CutPrefix(mode, "@"); ok {
				mode = filepath.Join(out, "checkpoint-"+step)
			} else if mode == "elsewhere" {
				mode = filepath.Join(scene(t, "20"), "checkpoint-20")
			} else if mode == "link" {
				mode = filepath.Join(t.TempDir(), "best")
				if err := os.Symlink(filepath.Join(out, "checkpoint-20"), mode); err != nil {
					t.Fatal(err)
				}
			}
			d, err := Decide(context.Background(), out, mode, c.overwrite)
			if c.refused != nil {
				for _, want := range c.refused {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("error %v, want one with %q", err, want)
					}
				}
				if !reflect.DeepEqual(d, Decision{}) {
					t.Errorf("refused, but: %+v", d)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			resume := int64(-1)
			if d.Resume != nil {
				resume = d.Resume.State.Step
			}
			if resume != c.resume || d.Clear != c.clear || len(d.Broken) != c.broken {
				t.Errorf("resume %d, clear %v, broken %v", resume, d.Clear, d.Broken)
			}
		})
	}
}

func TestDecideOnAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	put(t, path)
	if _, err := Decide(context.Background(), path, ResumeAuto, true); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
}

// Overwriting removes what ddprun wrote and nothing else; what was edited since is the user's.
func TestClear(t *testing.T) {
	out := scene(t, "10 20 30! model thesis.tex metrics.jsonl logs/attempt_1/0/stdout.log checkpoint-5/config.json .ddprun/generation-1")
	put(t, filepath.Join(out, "vocab.txt"))
	if err := Clear(out, 1); err != nil {
		t.Fatal(err)
	}
	wantNames(t, out, ".ddprun", "checkpoint-5", "logs", "thesis.tex", "vocab.txt")
	wantNames(t, filepath.Join(out, privateDir), "generation-1")
	if err := Clear(filepath.Join(out, "missing"), 1); err != nil {
		t.Error(err)
	}
}
