package k8s

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/ddprun/ddprun/internal/hf"
)

// result is what a run has come to.
type result struct {
	model  string // directory
	losses map[int]float64
}

// result wants each step told once: a rank that was cut off tells nothing any more.
func (r *trial) result() result {
	r.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, "out/metrics.jsonl"))
	if err != nil {
		r.Fatal(err)
	}
	losses := r.steps()
	if told := strings.Count(string(text), `"loss":`); told != len(losses) {
		r.Errorf("%d steps are told, some of them twice: %d losses", len(losses), told)
	}
	return result{filepath.Join(r.dir, "out"), losses}
}

// generation is the record of one, as far as trials look at it.
type generation struct {
	World int    `json:"world_size"`
	Cause string // why the one before ended
}

// generations are those of the run so far.
func (r *trial) generations() (all []generation) {
	r.Helper()
	for n := 0; ; n++ {
		text, err := os.ReadFile(filepath.Join(r.dir, "out/.ddprun", fmt.Sprint("generation-", n)))
		if os.IsNotExist(err) {
			return all
		}
		var record generation
		if err == nil {
			err = json.Unmarshal(text, &record)
		}
		if err != nil {
			r.Fatal(err)
		}
		all = append(all, record)
	}
}

// worlds are their numbers of ranks.
func (r *trial) worlds() (all []int) {
	r.Helper()
	for _, g := range r.generations() {
		all = append(all, g.World)
	}
	return all
}

// befallen wants the ranks to have been started several times, with these numbers of them.
func (r *trial) befallen(worlds ...int) {
	r.Helper()
	for _, g := range r.generations() {
		r.Logf("a generation of %d ranks; the one before ended since: %s", g.World, g.Cause)
	}
	got := r.worlds()
	if len(got) < 2 || !slices.Equal(slices.Compact(slices.Clone(got)), worlds) {
		r.Errorf("the generations had %v ranks, want %v and several of them", got, worlds)
	}
}

// undisturbed is the result of a run of three pods that nothing befell. It lies below t's directory.
func undisturbed(t *testing.T, gathered string) result {
	t.Helper()
	r := newTrial(t, trialConfig(nodesSteps), func(o *Options) { o.MinNodes, o.MaxNodes = 3, 3 }).corpus()
	r.start(programs(gathered))
	if how, why := r.ended(); how != batchv1.JobComplete {
		t.Fatalf("%s: %s", how, why)
	}
	found := r.result()
	if len(found.losses) != nodesSteps {
		t.Fatalf("%d steps are logged, want %d", len(found.losses), nodesSteps)
	}
	return found
}

// same wants every step there once and the final weights bit for bit, where three ranks trained throughout; else losses within 1e-4, since sums
// were added in another order.
func (r *trial) same(want result) {
	r.Helper()
	got, worlds := r.result(), r.worlds()
	throughout := !slices.ContainsFunc(worlds, func(world int) bool { return world != 3 })
	if !slices.Equal(slices.Sorted(maps.Keys(got.losses)), slices.Sorted(maps.Keys(want.losses))) {
		r.Errorf("%d steps are logged, want %d", len(got.losses), len(want.losses))
	}
	worst, at := 0.0, 0
	for step, loss := range want.losses {
		if d := math.Abs(got.losses[step] - loss); d > worst {
			worst, at = d, step
		}
	}
	bits := sameFiles(r.T, filepath.Join(got.model, "model.safetensors"), filepath.Join(want.model, "model.safetensors"))
	r.Logf("generations of %v ranks; weights the same bit for bit: %t; weights differ by %.2g at most, losses by %.2g (at step %d)", worlds, bits, farthest(r.T, got.model, want.model), worst, at)
	if worst > 1e-4 || throughout && worst != 0 {
		r.Errorf("the loss of step %d is %v, undisturbed it is %v", at, got.losses[at], want.losses[at])
	}
	if throughout && !bits {
		r.Error("the final weights are not those of an undisturbed run")
	}
}

func sameFiles(t *testing.T, a, b string) bool {
	t.Helper()
	texts := [2][]byte{}
	for i, path := range []string{a, b} {
		var err error
		if texts[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return bytes.Equal(texts[0], texts[1])
}

// farthest is the largest difference between two models' weights.
func farthest(t *testing.T, a, b string) float64 {
	t.Helper()
	values := [2]map[string][]float32{{}, {}}
	for i, dir := range []string{a, b} {
		weights, err := hf.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range weights.Names() {
			tensor, _ := weights.Tensor(name)
			values[i][name] = make([]float32, tensor.Elements())
			if err := tensor.AsFloat32(values[i][name]); err != nil {
				t.Fatal(err)
			}
		}
		if err := weights.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(slices.Sorted(maps.Keys(values[0])), slices.Sorted(maps.Keys(values[1]))) {
		t.Fatal("the models have other weights")
	}
	worst := 0.0
	for name, some := range values[0] {
		for i, x := range some {
			worst = max(worst, math.Abs(float64(x-values[1][name][i])))
		}
	}
	return worst
}
