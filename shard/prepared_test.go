package shard

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestPreparedDirectoryAsData(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "a.txt")
	writeFile(t, text, someText(5))
	made := prepare(t, lineConfig(filepath.Join(dir, "cache"), text))
	want := everything(t, made.Dir)
	cut := SampleConfig{Unit: Window, MaxTokens: 8}
	digest := samplesOf(t, open(t, made.Dir), cut).Digest()
	moved := filepath.Join(dir, "moved")
	if err := os.Rename(made.Dir, moved); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(text); err != nil {
		t.Fatal(err)
	}
	cfg := lineConfig(filepath.Join(dir, "unused"), moved)
	report := prepare(t, cfg)
	if !report.Reused || report.Dir != moved || report.Documents != 5 || !reflect.DeepEqual(everything(t, report.Dir), want) {
		t.Errorf("%+v", report)
	}
	if early, err := SamplesDigest(cfg, cut); err != nil || early != digest {
		t.Errorf("%s, %v; want %s", early, err, digest)
	}
	if _, err := os.Stat(cfg.Dir); err == nil {
		t.Error("a prepared directory needs no other")
	}
	for want, change := range map[string]func(*PrepareConfig){
		"another tokenizer": func(c *PrepareConfig) { c.Encoder = testEncoder{vocab: 30000, name: "other"} },
		"vocabulary 30000":  func(c *PrepareConfig) { c.Encoder = testEncoder{vocab: 30001} },
		`text_unit "para`:   func(c *PrepareConfig) { c.TextUnit = TextLine },
		`configuration say`: func(c *PrepareConfig) { c.SentenceUnit = SentenceNone },
		"cannot be mixed":   func(c *PrepareConfig) { c.Paths = append(c.Paths, moved) },
	} {
		bad := cfg
		change(&bad)
		_, err := Prepare(t.Context(), bad)
		wantError(t, err, moved, want)
	}
	writeFile(t, filepath.Join(moved, indexName), "{}")
	_, err := Prepare(t.Context(), cfg)
	wantError(t, err, moved, "is no index of shards")
}

func TestStdin(t *testing.T) {
	dir := t.TempDir()
	cfg := lineConfig(filepath.Join(dir, "cache"), "-")
	cfg.Stdin = strings.NewReader(someText(7))
	report := prepare(t, cfg)
	if report.Documents != 7 || report.Sources[0].Path != "stdin.txt" {
		t.Errorf("%+v", report)
	}
	cfg.Stdin = strings.NewReader(someText(7))
	if again := prepare(t, cfg); again.Dir != report.Dir || !again.Reused {
		t.Errorf("the same text again: %+v", again)
	}
	cfg.Stdin = nil
	_, err := Prepare(t.Context(), cfg)
	wantError(t, err, "standard input", "ddprun prepare")
	cfg.Paths = []string{"-", report.Dir + "/x"}
	_, err = Prepare(t.Context(), cfg)
	wantError(t, err, "no other path")
	cfg.Paths, cfg.Stdin = []string{"-"}, io.MultiReader(strings.NewReader("half"), failing{})
	_, err = Prepare(t.Context(), cfg)
	wantError(t, err, "standard input", "broken")
	r, w := io.Pipe()
	defer w.Close()
	cfg.Stdin = r
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err = Prepare(ctx, cfg); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("input that does not come: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(cfg.Dir, tmpPrefix+"*")); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("broken") }
