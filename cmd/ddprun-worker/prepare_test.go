package main

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestPrepareIsIdempotent(t *testing.T) {
	w := newWorkspace(t)
	w.write("train.yaml", w.config("eval_data: "+w.path("heldout.txt"), "shards_dir: "+w.path("shards")))
	first, err := worker("", "prepare", w.path("train.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"data: 40 documents, 40 sentences, ", " tokens of 1 files, in 1 shards: " + w.path("shards") + "/", "\neval_data: 2 documents, 2 ",
		"\n" + w.path("shards") + ": 40 samples\n"} {
		if !strings.Contains(first, want) {
			t.Errorf("%q does not say %q", first, want)
		}
	}
	prepared := w.tree()
	again, err := worker("", "prepare", w.path("train.yaml"))
	if err != nil || again != first {
		t.Errorf("the second time: %q, %v", again, err)
	}
	if after := w.tree(); after != prepared {
		t.Errorf("the second time changed something:\nbefore:\n%safter:\n%s", prepared, after)
	}
	if strings.Contains(prepared, w.path("runs")) {
		t.Errorf("prepare made output_dir:\n%s", prepared)
	}
	// Training finds them.
	if _, err := worker(w.resolved("eval_data: "+w.path("heldout.txt"), "shards_dir: "+w.path("shards")), "check"); err != nil {
		t.Fatal(err)
	}
	if after := w.tree(); after != prepared {
		t.Errorf("check prepared again:\nbefore:\n%safter:\n%s", prepared, after)
	}
	// Another length of samples needs no other shards, only another index.
	if out, err := worker("", "prepare", w.path("train.yaml"), "--set", "max_seq_length=8"); err != nil || out == first {
		t.Errorf("shorter samples: %q, %v", out, err)
	}
	// What truncation loses is told.
	out, err := worker("", "prepare", w.path("train.yaml"), "--set", "max_seq_length=8", "--set", "sample_unit=document", "--set", "long_samples=truncate")
	if err != nil || !strings.Contains(out, "longer than a sample") || !strings.Contains(out, "tokens cut off, ") {
		t.Errorf("truncated samples: %q, %v", out, err)
	}
}

func TestPrepareRefuses(t *testing.T) {
	w := newWorkspace(t)
	w.write("train.yaml", w.config("data: "+w.path("nowhere.txt")))
	before := w.tree()
	for _, args := range [][]string{{}, {"a", "b"}, {w.path("nowhere.yaml")}, {w.path("train.yaml"), "--set", "seed=x"}, {w.path("train.yaml")}} {
		_, err := worker("", append([]string{"prepare"}, args...)...)
		w.wantRefused(before, err)
	}
}

// A directory that prepare prints is data itself: moved, and without the text.
func TestPrepareStandardInput(t *testing.T) {
	w := newWorkspace(t)
	w.write("train.yaml", w.config("shards_dir: "+w.path("shards"), "on_error: skip"))
	lines := strings.Repeat(`{"text": "the quick brown fox jumps over the lazy dog"}`+"\n", 9) + "{}\n"
	out, err := worker(lines, "prepare", w.path("train.yaml"), "--set", "data=-", "--format", "jsonl")
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := strings.Cut(out, "\n")
	for _, want := range []string{"data: 9 documents", "  1 bad records skipped: no field: 1; the first of them:\n    stdin.jsonl: no field at byte 504, line 10", ": 9 samples"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q does not say %q in %q", out, want, rest)
		}
	}
	dir := first[strings.LastIndex(first, ": ")+2:]
	if err := os.Rename(dir, w.path("moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(w.path("shards")); err != nil {
		t.Fatal(err)
	}
	if out, err = worker("", "prepare", w.path("train.yaml"), "--set", "data="+w.path("moved")); err != nil || !strings.Contains(out, ": 9 samples") {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := worker(w.resolved("data: "+w.path("moved")), "check"); err != nil {
		t.Error(err)
	}
	w.write("model/tokenizer.json", strings.Replace(w.read("model/tokenizer.json"), `"lowercase": true`, `"lowercase": false`, 1))
	before := w.tree()
	_, err = worker(w.resolved("data: "+w.path("moved")), "check")
	w.wantRefused(before, err, w.path("moved"), "another tokenizer")
}

// TestPrepareStopped: a signal ends preparing with 75, and what was finished stays.
func TestPrepareStopped(t *testing.T) {
	ctx, release := untilSignal(t.Context())
	defer release()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil { // a scheduler signals more than once
		t.Fatal(err)
	}
	if err := stopped(ctx, context.Canceled); exitCode(err) != exitComeAgain {
		t.Errorf("%v has exit code %d", err, exitCode(err))
	}
	if err := stopped(t.Context(), context.Canceled); exitCode(err) == exitComeAgain {
		t.Error("an error without a signal asks to come again")
	}
}
