package main

import (
	"strings"
	"testing"
)

func TestPrepareIsIdempotent(t *testing.T) {
	w := newWorkspace(t)
	w.write("train.yaml", w.config("eval_data: "+w.path("heldout.txt"), "shards_dir: "+w.path("shards")))
	first, err := worker("", "prepare", w.path("train.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if want := w.path("shards") + ": 40 samples\n"; first != want {
		t.Errorf("got %q, want %q", first, want)
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
