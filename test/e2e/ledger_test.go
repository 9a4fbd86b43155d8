package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ddprun/ddprun/test/kit"
)

// streamSample is a sample of a stream, and how often an epoch has been seen to take it.
type streamSample struct {
	epoch, stream, sample int64
}

// ledger reads what the ranks of a run have logged that they trained on: how often each sample came in each epoch. Every lane of every step must be there once.
func (w *workspace) ledger(dir string, lanes int, steps int64) map[streamSample]int {
	w.t.Helper()
	seen := map[streamSample]int{}
	micro := map[[2]int64]bool{}
	logs, _ := filepath.Glob(w.path(dir + "/samples/rank-*.jsonl"))
	for _, path := range logs {
		for line := range strings.Lines(readFile(w.t, path)) {
			var e struct {
				Step, Epoch, Lane         int64
				Numbers, Streams, Samples []int64
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				w.t.Fatalf("%s: %q: %v", path, line, err)
			}
			at := [2]int64{e.Step, e.Lane}
			if micro[at] || e.Step > steps || e.Lane >= int64(lanes) {
				w.t.Errorf("%s: step %d, lane %d is told twice, or never was", path, e.Step, e.Lane)
			}
			micro[at] = true
			for i := range e.Samples {
				seen[streamSample{e.Epoch, e.Streams[i], e.Samples[i]}]++
			}
		}
	}
	return seen
}

// Training on two streams, one of which counts twice and a half, is killed at random moments, on one and on two ranks in turn. In what was kept, no sample was lost or
// seen once too often.
func TestNoSampleLostOrSeenTwice(t *testing.T) {
	t.Parallel()
	const first, second, lanes, batch = 90, 31, 4, 2
	perEpoch := int64(first + 2*second + (second+1)/2) // half of 31 samples are 16
	stepsPerEpoch := ((perEpoch+lanes-1)/lanes + batch - 1) / batch
	epochs := int64(kills(3, 20))
	steps := epochs * stepsPerEpoch
	c := &comeback{workspace: newWorkspace(t, first), t: t, ranks: 2, steps: steps, rand: rand.New(rand.NewPCG(6, 1))}
	c.config("train.yaml", settings{"data": []map[string]any{{"path": "text.txt", "name": "general"}, {"path": "domain.txt", "name": "domain", "weight": 2.5}},
		"max_steps": steps, "save_steps": 4, "save_total_limit": 2, "sample_log": true, "seed": 5})
	c.write("domain.txt", kit.Lines(4, second))
	killed := 0
	for killed < kills(3, 20) {
		ranks := 1 + c.rand.IntN(2)
		p := c.start("--nproc", fmt.Sprint(ranks), "train.yaml")
		if c.rand.IntN(4) > 0 { // else in the set-up
			c.reached(p, c.newestCheckpoint()+1+c.rand.Int64N(6))
		}
		time.Sleep(time.Duration(c.rand.IntN(200)) * time.Millisecond)
		if p.ended() {
			t.Fatalf("the run has ended after %d kills\n%s", killed, p.wait().stderr)
		}
		killed++
		if c.rand.IntN(2) == 0 || !p.killWorker(c.rand.IntN(ranks)) { // in the set-up there may be no worker yet
			p.signal(syscall.SIGKILL)
		}
		p.wait()
	}
	c.run("--nproc", "2", "train.yaml").want(t, 0)
	t.Logf("killed %d times in %d steps", killed, steps)
	seen := c.ledger("out", lanes, steps)
	total := int64(0)
	for at, times := range seen {
		total += int64(times)
		if at.stream == 0 && times != 1 || at.stream == 1 && times != 2 && times != 3 {
			t.Errorf("sample %d of stream %d came %d times in epoch %d", at.sample, at.stream, times, at.epoch)
		}
	}
	if each := int(epochs) * (first + second); len(seen) != each || total != epochs*perEpoch {
		t.Errorf("%d samples were seen, %d in all; want %d, %d", len(seen), total, each, epochs*perEpoch)
	}
	c.run("--nproc", "2", "--set", "output_dir=whole", "train.yaml").want(t, 0)
	for at, times := range c.ledger("whole", lanes, steps) {
		if seen[at] != times {
			t.Errorf("sample %d of stream %d came %d times in epoch %d, in the undisturbed run %d times", at.sample, at.stream, seen[at], at.epoch, times)
		}
	}
}
