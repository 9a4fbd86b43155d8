package slurm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ddprun/ddprun/test/kit"
)

// programs builds ddprun and ddprun-worker from this checkout, once.
var programs = sync.OnceValues(func() (dir string, err error) {
	dir = filepath.Join(cluster, "bin")
	return dir, kit.Build(dir)
})

// steps of a run: long enough to be disturbed.
const steps = 240

// newTraining has a job of low to high nodes with 2 ranks each that train a small model.
func newTraining(t *testing.T, low, high int) *work {
	t.Helper()
	w := newWork(t)
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	kit.WriteModel(t, w.write)
	w.write("text.txt", kit.Lines(1, 500))
	w.write("train.yaml", fmt.Sprintf(`model: model
data: text.txt
text_unit: line
sample_unit: document
output_dir: out
per_device_train_batch_size: 2
global_batch_size: 24
max_steps: %d
learning_rate: 1e-3
logging_steps: 1
save_steps: 20
save_total_limit: 3
threads_per_rank: 1
ddp_timeout: 60
`, steps))
	w.job.Program = []string{filepath.Join(dir, "ddprun")}
	w.job.MinNodes, w.job.MaxNodes = low, high
	w.job.AgentArgs = []string{"--last-call=2s", "--max-restarts=10"}
	return w
}

// losses returns the loss of each step in metrics.jsonl: of the last account where there are several.
func (w *work) losses() map[int]float64 {
	found := map[int]float64{}
	for line := range strings.Lines(w.read("out/metrics.jsonl")) {
		var m struct {
			Step int
			Loss *float64
		}
		if json.Unmarshal([]byte(line), &m) == nil && m.Loss != nil {
			found[m.Step] = *m.Loss
		}
	}
	return found
}

// reaches waits until the run has trained step.
func (w *work) reaches(step int) {
	w.t.Helper()
	until(w.t, fmt.Sprintf("step %d", step), func() bool {
		_, there := w.losses()[step]
		return there
	})
}

// undisturbed is the model and the losses of a run that nothing has happened to, by its number of nodes.
var undisturbed = map[int]result{}

type result struct {
	model  []byte
	losses map[int]float64
}

func (w *work) result() result {
	w.t.Helper()
	model, err := os.ReadFile(w.path("out/model.safetensors"))
	if err != nil {
		w.t.Fatal(err)
	}
	return result{model, w.losses()}
}

// reference runs one where there has not been one yet.
func reference(t *testing.T, n int) result {
	t.Helper()
	if r, found := undisturbed[n]; found {
		return r
	}
	w := newTraining(t, n, n)
	w.submit()
	w.ends("COMPLETED", "0:0", "0")
	undisturbed[n] = w.result()
	return undisturbed[n]
}

// same wants the weights of an undisturbed run of n nodes, bit for bit.
func (w *work) same(n int) {
	w.t.Helper()
	if want := reference(w.t, n); !bytes.Equal(w.result().model, want.model) {
		w.t.Errorf("the weights are not those of an undisturbed run of %d nodes", n)
	}
}

// close wants its losses, to 1e-4: the number of ranks has changed meanwhile, and with it the order of sums.
func (w *work) close(n int) {
	w.t.Helper()
	want, got := reference(w.t, n).losses, w.losses()
	worst := 0.0
	for step := 1; step <= steps; step++ {
		a, there := got[step]
		b, wanted := want[step]
		if !there || !wanted {
			w.t.Fatalf("no loss of step %d", step)
		}
		worst = max(worst, math.Abs(a-b))
	}
	w.t.Logf("losses differ by %.2g at most", worst)
	if worst > 1e-4 {
		w.t.Errorf("losses differ by %v", worst)
	}
}

// Three nodes with two ranks each find each other and train.
func TestTrain(t *testing.T) {
	if missing != "" {
		t.Skip(missing)
	}
	r := reference(t, nodes)
	if len(r.losses) != steps {
		t.Errorf("%d losses, want %d", len(r.losses), steps)
	}
}

func TestTrainRequeued(t *testing.T) {
	w := newTraining(t, nodes, nodes)
	w.submit()
	w.reaches(50)
	on(t, "ctl", "scontrol", "requeue", w.id)
	w.ends("COMPLETED", "0:0", "1")
	w.same(nodes)
}

func TestTrainCancelled(t *testing.T) {
	forFaults(t)
	reference(t, nodes)
	w := newTraining(t, nodes, nodes)
	w.submit()
	w.reaches(50)
	on(t, "ctl", "scancel", w.id)
	w.ends("CANCELLED", "75:0", "0")
	w.submit()
	w.ends("COMPLETED", "0:0", "0")
	w.same(nodes)
}

// A wrong configuration fails the job at once, and nothing is started again.
func TestTrainWrong(t *testing.T) {
	w := newTraining(t, nodes, nodes)
	w.write("train.yaml", strings.ReplaceAll(w.read("train.yaml"), "model: model", "model: nowhere"))
	w.submit()
	w.ends("FAILED", "78:0", "0")
	if !strings.Contains(w.log(), "nowhere") {
		t.Error("the log does not say what is wrong")
	}
}
