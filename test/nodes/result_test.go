package nodes

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// record is a generation as output_dir tells it.
type record struct {
	Generation  int
	Coordinator string
	World       int   `json:"world_size"`
	Start       int64 `json:"start_step"`
	Cause       string
	Members     []member
}

type member struct {
	ID       string
	NodeRank int `json:"node_rank"`
	Host     string
	Address  string
}

var recordName = regexp.MustCompile(`/generation-(\d+)$`)

// records returns all generations so far, in order.
func (r *training) records() []record {
	r.t.Helper()
	names, _ := filepath.Glob(r.path("out/.ddprun/generation-*"))
	var all []record
	for _, name := range names {
		if !recordName.MatchString(name) {
			continue
		}
		var rec record
		content, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(content, &rec)
		}
		if err != nil {
			r.t.Fatalf("%s: %v", name, err)
		}
		all = append(all, rec)
	}
	slices.SortFunc(all, func(a, b record) int { return a.Generation - b.Generation })
	return all
}

// coordinator is the node rank of the newest generation's.
func (r *training) coordinator() int {
	r.t.Helper()
	records := r.records()
	if len(records) == 0 {
		r.t.Fatalf("no generation was claimed\n%s", r.log())
	}
	newest := records[len(records)-1]
	for _, m := range newest.Members {
		if m.ID == newest.Coordinator {
			return m.NodeRank
		}
	}
	r.t.Fatalf("the coordinator of generation %d is none of its members", newest.Generation)
	return 0
}

// metric is a line of metrics.jsonl.
type metric struct {
	Step     int64
	Loss     *float64
	EvalLoss *float64 `json:"eval_loss"`
}

// metrics returns what metrics.jsonl holds now; a line under way is left out.
func (r *training) metrics() []metric {
	content, _ := os.ReadFile(r.path("out/metrics.jsonl"))
	var all []metric
	for line := range strings.Lines(string(content)) {
		var m metric
		if json.Unmarshal([]byte(line), &m) == nil && strings.HasSuffix(line, "\n") {
			all = append(all, m)
		}
	}
	return all
}

// step is the newest step that was logged.
func (r *training) step() (newest int64) {
	for _, m := range r.metrics() {
		if m.Loss != nil {
			newest = m.Step
		}
	}
	return newest
}

// result is what a run has left.
type result struct {
	weights string
	losses  map[int64]float64 // by step; each once
	evals   map[int64]float64
	samples map[string]int // by epoch and sample
}

// result reads what was kept, and fails the test where a step, a lane of a step or an evaluation is there twice or missing.
func (r *training) result() result {
	r.t.Helper()
	found := result{weights: r.read("out/model.safetensors"), losses: map[int64]float64{}, evals: map[int64]float64{}, samples: map[string]int{}}
	for _, m := range r.metrics() {
		for kind, value := range map[string]*float64{"loss": m.Loss, "evaluation": m.EvalLoss} {
			into := found.losses
			if kind == "evaluation" {
				into = found.evals
			}
			if value == nil {
				continue
			}
			if _, twice := into[m.Step]; twice {
				r.t.Errorf("metrics.jsonl tells the %s of step %d twice", kind, m.Step)
			}
			into[m.Step] = *value
		}
	}
	if int64(len(found.losses)) != r.steps {
		r.t.Errorf("metrics.jsonl tells %d steps of %d", len(found.losses), r.steps)
	}
	r.ledger(&found)
	return found
}

// ledger reads what the ranks have logged that they trained on.
func (r *training) ledger(into *result) {
	r.t.Helper()
	micro := map[[2]int64]bool{}
	logs, _ := filepath.Glob(r.path("out/samples/rank-*.jsonl"))
	for _, path := range logs {
		content, err := os.ReadFile(path)
		if err != nil {
			r.t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			var e struct {
				Step, Epoch, Lane int64
				Samples           []int64
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				r.t.Fatalf("%s: %q: %v", path, line, err)
			}
			at := [2]int64{e.Step, e.Lane}
			if micro[at] || e.Step > r.steps || e.Lane >= lanes {
				r.t.Errorf("%s: step %d, lane %d is told twice, or never was", path, e.Step, e.Lane)
			}
			micro[at] = true
			for _, sample := range e.Samples {
				into.samples[fmt.Sprint(e.Epoch, "/", sample)]++
			}
		}
	}
}

// tolerance is how far losses may be apart where the number of ranks has changed.
const tolerance = 1e-4

// compare fails the test where the run has not come to what the undisturbed one has: the same bits where the number of ranks was the same throughout.
func (r *training) compare(want result) {
	r.t.Helper()
	got := r.result()
	same := true
	for _, rec := range r.records() {
		same = same && rec.World == len(r.hosts0())*r.nproc
	}
	if same && got.weights != want.weights {
		r.t.Error("the final weights are not those of the undisturbed run, bit for bit")
	}
	if !maps.Equal(got.samples, want.samples) {
		r.t.Errorf("other samples were counted than in the undisturbed run: %d, want %d", len(got.samples), len(want.samples))
	}
	for kind, losses := range map[string][2]map[int64]float64{"loss": {got.losses, want.losses}, "evaluation": {got.evals, want.evals}} {
		for step, value := range losses[1] {
			if now, found := losses[0][step]; !found || math.Abs(now-value) > tolerance || same && now != value {
				r.t.Errorf("%s of step %d is %v, undisturbed %v", kind, step, now, value)
				break
			}
		}
	}
}
