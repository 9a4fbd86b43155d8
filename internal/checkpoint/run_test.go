package checkpoint

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ddprun/ddprun/internal/generation"
)

// claimed makes a later generation than that of the tests' snapshots.
func claimed(t *testing.T, out string) {
	t.Helper()
	if won, err := generation.Claim(out, 4, []byte(`{"generation": 4}`)); err != nil || !won {
		t.Fatal(won, err)
	}
}

// A generation that is overtaken changes nothing any more.
func TestSuperseded(t *testing.T) {
	for name, f := range map[string]func(out, model string) error{
		"Save": func(out, model string) error {
			return Save(t.Context(), SaveConfig{OutputDir: out}, snapshot(t, model, 40, 10))
		},
		"again": func(out, model string) error {
			return Save(t.Context(), SaveConfig{OutputDir: out}, snapshot(t, model, 30, 10))
		},
		"SaveModel": func(out, model string) error { return SaveModel(t.Context(), out, 3, snapshot(t, model, 30, 10).Model) },
		"Prune":     func(out, _ string) error { return Prune(out, 1, 3) },
		"Clear":     func(out, _ string) error { return Clear(out, 3) },
		"Clean":     func(out, _ string) error { _, err := Clean(out, 3); return err },
		"Begin":     func(out, _ string) error { return Begin(out, 3, 0, Run{}) },
		"Remove":    func(out, _ string) error { return Remove(out, 3, metricsFile) },
		"Replace": func(out, _ string) error {
			path, err := NewFile(out, 3, metricsFile)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path, []byte("new"), 0o644); err != nil {
				return err
			}
			return Replace(out, 3, path, metricsFile)
		},
		"Settle": func(out, _ string) error {
			_, _, err := Settle(context.Background(), out, 3, ResumeAuto, false, Run{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, model := t.TempDir(), modelDir(t)
			mustSave(t, out, 10, 20, 30)
			if err := os.WriteFile(filepath.Join(out, metricsFile), []byte("old"), 0o644); err != nil {
				t.Fatal(err)
			}
			claimed(t, out)
			before := tree(t, out)
			if err := f(out, model); !errors.Is(err, ErrSuperseded) {
				t.Errorf("error %v", err)
			}
			after := tree(t, out)
			for path, text := range before {
				if after[path] != text {
					t.Errorf("%s has changed", path)
				}
				delete(after, path)
			}
			if len(after) > 0 {
				t.Errorf("new: %v", after)
			}
		})
	}
}

func TestNewest(t *testing.T) {
	out := t.TempDir()
	want := func(step int64) {
		t.Helper()
		if got, err := Newest(out); err != nil || got != step {
			t.Errorf("newest is %d (%v), want %d", got, err, step)
		}
	}
	want(0)
	mustSave(t, out, 10, 20, 30) // by an earlier version, which left no records
	want(30)
	if err := os.Truncate(filepath.Join(out, "checkpoint-30", modelFile), 5); err != nil {
		t.Fatal(err)
	}
	want(20)
	if err := os.Mkdir(filepath.Join(out, "checkpoint-40"), 0o755); err != nil { // another program's
		t.Fatal(err)
	}
	want(20)
	if err := generation.Begin(out, 4, 10, Run{}); err != nil {
		t.Fatal(err)
	}
	want(10)
	if d, err := Decide(context.Background(), out, ResumeAuto, false); err == nil {
		t.Errorf("%+v although checkpoint-40 is another program's", d)
	}
	os.Remove(filepath.Join(out, "checkpoint-40"))
	d, err := Decide(context.Background(), out, ResumeAuto, false)
	if err != nil || d.Resume == nil || d.Resume.State.Step != 10 || len(d.Left) != 2 || len(d.Broken) > 0 {
		t.Errorf("%+v (%v)", d, err)
	}
}

// A checkpoint that does not count makes way for one of the same step.
func TestOneThatDoesNotCountIsReplaced(t *testing.T) {
	out, model := t.TempDir(), modelDir(t)
	mustSave(t, out, 10, 20)
	claimed(t, out)
	if err := Begin(out, 4, 10, Run{}); err != nil {
		t.Fatal(err)
	}
	s := snapshot(t, model, 20, 10)
	s.State.Generation = 4
	if err := Save(t.Context(), SaveConfig{OutputDir: out}, s); err != nil {
		t.Fatal(err)
	}
	newest, broken, err := Latest(context.Background(), out)
	if err != nil || len(broken) > 0 || newest.State.Generation != 4 {
		t.Errorf("%+v, %v, %v", newest, broken, err)
	}
}

func TestResumeMode(t *testing.T) {
	run := Run{ID: "r", Agents: []string{"0-a", "1-b"}}
	for _, c := range []struct {
		name, mode string
		now        Run
		saved      bool
		want       string
	}{
		{"auto", ResumeAuto, Run{}, true, ResumeAuto},
		{"another run", ResumeNone, Run{ID: "s", Agents: []string{"0-c"}}, true, ResumeNone},
		{"a node was lost", ResumeNone, Run{ID: "r", Agents: []string{"1-b"}}, true, ResumeAuto},
		{"before the first checkpoint", ResumeNone, Run{ID: "r", Agents: []string{"1-b"}}, false, ResumeNone},
		{"a directory", "elsewhere/checkpoint-5", run, true, ResumeAuto},
		{"a directory, before the first checkpoint", "elsewhere/checkpoint-5", run, false, "elsewhere/checkpoint-5"},
		{"all nodes are started again", ResumeNone, Run{ID: "r", Agents: []string{"0-d", "1-e"}}, true, ResumeNone},
	} {
		out := t.TempDir()
		if c.saved {
			mustSave(t, out, 10)
		}
		if err := generation.Begin(out, 2, 0, run); err != nil {
			t.Fatal(err)
		}
		if got, err := ResumeMode(out, c.mode, c.now); err != nil || got != c.want {
			t.Errorf("%s: %s (%v), want %s", c.name, got, err, c.want)
		}
	}
}

func TestQuiesce(t *testing.T) {
	out := t.TempDir()
	mustSave(t, out, 10)
	inside, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	hookSteps(t, func(name string) {
		if name == "discard: aside" {
			close(inside)
			<-goOn
		}
	})
	go func() { ended <- Remove(out, 3, Name(10)) }()
	<-inside
	release := Quiesce(time.Millisecond) // gives up
	close(goOn)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	release()
	Quiesce(time.Minute)()
}
