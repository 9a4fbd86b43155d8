package e2e

import (
	"fmt"
	"maps"
	"syscall"
	"testing"
)

// streams are two texts, one of which counts two and a half times, in micro-batches of at most 60 tokens.
func streams() settings {
	return settings{"data": []any{map[string]any{"path": "text.txt"}, map[string]any{"path": "heldout.txt", "weight": 2.5}},
		"per_device_train_batch_size": nil, "global_batch_size": nil, "per_device_train_tokens": 60, "global_batch_tokens": 240, "sample_log": true}
}

// exactlyOnce checks the ledger of a run on streams: in each of the epochs before the last, which may be cut short, each sample comes as often as its stream weighs.
func (w *workspace) exactlyOnce(seen map[streamSample]int, documents, heldOut int) {
	w.t.Helper()
	last := int64(0)
	for at := range seen {
		last = max(last, at.epoch)
	}
	if last < 2 {
		w.t.Fatalf("%d epochs are too few to show anything", last)
	}
	for epoch := range last {
		more := 0
		for sample := range int64(documents) {
			if n := seen[streamSample{epoch, 0, sample}]; n != 1 {
				w.t.Errorf("epoch %d took sample %d %d times", epoch, sample, n)
			}
		}
		for sample := range int64(heldOut) {
			n := seen[streamSample{epoch, 1, sample}]
			if more += n - 2; n != 2 && n != 3 {
				w.t.Errorf("epoch %d took sample %d of weight 2.5 %d times", epoch, sample, n)
			}
		}
		if more != (heldOut+1)/2 {
			w.t.Errorf("epoch %d took %d samples once more", epoch, more)
		}
	}
}

// Weighted streams in micro-batches by tokens: the same losses and the same samples at any number of ranks.
func TestTokenBudgetAtAnyNumberOfRanks(t *testing.T) {
	t.Parallel()
	const documents = 33
	w := newWorkspace(t, documents)
	changes := streams()
	changes["max_steps"], changes["save_strategy"] = 30, "no"
	records := w.sameOnRanks(changes, 30, 1e-6, 1, 2, 3, 4)
	for _, r := range records {
		if r.Tokens > 240*r.Step {
			t.Errorf("%d tokens in %d steps are more than 240 each", r.Tokens, r.Step)
		}
	}
	want := w.ledger("out1", 4, 30)
	w.exactlyOnce(want, documents, 11)
	for _, ranks := range []int{2, 3, 4} {
		if !maps.Equal(w.ledger(fmt.Sprint("out", ranks), 4, 30), want) {
			t.Errorf("%d ranks take other samples than one", ranks)
		}
	}
}

// Such a run is killed at random moments and goes on at other numbers of ranks: what is kept has lost no sample and seen none twice.
func TestTokenBudgetOverKillsAndResizes(t *testing.T) {
	t.Parallel()
	c := newComeback(t, 12, 2, streams())
	for range kills(3, 20) {
		c.ranks = 1 + c.rand.IntN(4)
		p := c.command()
		c.reached(p, c.newestCheckpoint()+1+c.rand.Int64N(c.steps/int64(kills(4, 20))))
		p.signal(syscall.SIGKILL)
		p.wait()
	}
	c.command().wait().want(t, 0)
	want := c.ledger("whole", 4, c.steps)
	c.exactlyOnce(want, 150, 11)
	if !maps.Equal(c.ledger("out", 4, c.steps), want) {
		t.Error("the ledger is not that of the undisturbed run")
	}
}
