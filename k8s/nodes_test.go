package k8s

import (
	"fmt"
	"maps"
	"math"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// nodesSteps is how long the trials below train: long enough that what befalls them at nodesFault befalls them on the way.
const (
	nodesSteps = 60
	nodesFault = 15
)

// undisturbed are the losses of a run of one pod that nothing befell. Its global batch is that of any number of pods.
func undisturbed(t *testing.T, gathered string) map[int]float64 {
	t.Helper()
	r := newTrial(t, trialConfig(nodesSteps), nil).corpus()
	r.start(programs(gathered))
	if how, why := r.ended(); how != batchv1.JobComplete {
		t.Fatalf("%s: %s", how, why)
	}
	return r.steps()
}

// sameLosses wants every step there once, with the loss of an undisturbed run but for the order of sums.
func (r *trial) sameLosses(want map[int]float64) {
	r.Helper()
	got := r.steps()
	if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
		r.Errorf("%d steps are logged, want %d", len(got), len(want))
	}
	worst, at := 0.0, 0
	for step, loss := range want {
		if d := math.Abs(got[step] - loss); d > worst {
			worst, at = d, step
		}
	}
	r.Logf("losses differ from an undisturbed run's by %.2g at most, at step %d", worst, at)
	if worst > 1e-4 {
		r.Errorf("the loss of step %d is %g, undisturbed it is %g", at, got[at], want[at])
	}
}

// severalNodes skips while ddprun's agents do not know of each other.
func severalNodes(t *testing.T) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "../bin/ddprun", "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "--nnodes") {
		t.Skip("bin/ddprun has no --nnodes yet: its agents run on one node alone")
	}
}

// TestNodes: runs of several pods, with what befalls pods of a Job. Each ends with the losses of an undisturbed run.
func TestNodes(t *testing.T) {
	gathered := gather(t)
	severalNodes(t)
	want := sync.OnceValue(func() map[int]float64 { return undisturbed(t, gathered) })
	fixed := func(o *Options) { o.MinNodes, o.MaxNodes = 3, 3 }
	limited := func(o *Options) {
		memory := resource.MustParse("1Gi")
		o.MinNodes, o.MaxNodes, o.Memory, o.SharedMemory = 3, 3, &memory, &memory
	}
	elastic := func(o *Options) { o.MinNodes, o.MaxNodes, o.StartNodes = 2, 4, 2 }
	for _, c := range []struct {
		name   string
		change func(o *Options)
		befall func(r *trial)
	}{
		{"three pods find each other", fixed, func(r *trial) {}},
		{"a pod is deleted", fixed, func(r *trial) {
			r.kubectl("delete", "pod", "-l", "batch.kubernetes.io/job-completion-index=1", "--wait=false")
		}},
		{"the first pod is killed", fixed, func(r *trial) {
			r.kubectl("delete", "pod", "-l", "batch.kubernetes.io/job-completion-index=0", "--force", "--grace-period=0", "--wait=false")
		}},
		{"a pod is evicted", fixed, func(r *trial) {
			r.running("0", "1", "2")
			r.evict(r.pod("2").Name)
		}},
		{"a rank is killed for memory", limited, func(r *trial) {
			// /dev/shm counts as the pod's memory, and the rank is the largest of its processes.
			r.kubectl("exec", r.pod("1").Name, "--", "sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=1000; sleep 1; rm /dev/shm/x; true")
		}},
		{"suspended and resumed", fixed, func(r *trial) {
			r.kubectl("patch", "job", r.options.Name, "-p", `{"spec":{"suspend":true}}`)
			r.running()
			r.kubectl("patch", "job", r.options.Name, "-p", `{"spec":{"suspend":false}}`)
		}},
		{"2, 3 and again 2 pods", elastic, func(r *trial) {
			r.resize(3)
			r.running("0", "1", "2")
			r.reached(nodesFault + 15)
			r.resize(2)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newTrial(t, trialConfig(nodesSteps), c.change).corpus()
			begin := time.Now()
			r.start(programs(gathered))
			r.reached(nodesFault)
			t.Logf("step %d after %s", nodesFault, time.Since(begin).Round(time.Second))
			c.befall(r)
			if how, why := r.ended(); how != batchv1.JobComplete {
				t.Fatalf("%s: %s", how, why)
			}
			t.Logf("done after %s", time.Since(begin).Round(time.Second))
			r.sameLosses(want())
		})
	}
	t.Run("a pod that starts after the end is done", func(t *testing.T) {
		r := newTrial(t, trialConfig(5), fixed).corpus()
		r.start(programs(gathered))
		if how, why := r.ended(); how != batchv1.JobComplete {
			t.Fatalf("%s: %s", how, why)
		}
		before := r.steps()
		r.kubectl("delete", "job", r.options.Name)
		r.start(programs(gathered))
		if how, why := r.ended(); how != batchv1.JobComplete || !maps.Equal(before, r.steps()) {
			t.Errorf("%s: %s; losses %v, then %v", how, why, before, r.steps())
		}
	})
}

// TestLostNodes powers a node off under ddprun, and cuts its cable.
func TestLostNodes(t *testing.T) {
	gathered := gather(t)
	severalNodes(t)
	nodesToPower(t)
	want := undisturbed(t, gathered)
	for _, c := range []struct {
		name   string
		change func(o *Options)
		index  string // whose node is lost
		cable  bool
	}{
		{"an elastic run goes on", func(o *Options) { o.MinNodes, o.MaxNodes = 2, 3 }, "1", false},
		{"a new pod elsewhere", func(o *Options) { o.MinNodes, o.MaxNodes, o.FastReplace = 3, 3, true }, "2", false},
		{"the first pod's cable", func(o *Options) { o.MinNodes, o.MaxNodes, o.FastReplace = 3, 3, true }, "0", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newTrial(t, trialConfig(nodesSteps), func(o *Options) { c.change(o); o.EvictAfter = 0 }).corpus()
			r.start(programs(gathered))
			r.reached(nodesFault)
			lost := r.node(c.index)
			if c.cable {
				r.power("net", lost, "down")
				defer r.power("net", lost, "up")
			} else {
				r.power("host-kill", lost)
				defer r.restore(lost)
			}
			begin := time.Now()
			at := r.last()
			r.until("a step after the loss", func() error {
				if now := r.last(); now < at+10 {
					return fmt.Errorf("at step %d, lost at %d", now, at)
				}
				return nil
			})
			t.Logf("lost at step %d, ten steps later after %s", at, time.Since(begin).Round(time.Second))
			if c.cable { // the old rank comes back while the new one trains
				r.power("net", lost, "up")
				if how, why := r.ended(); how != batchv1.JobComplete {
					t.Fatalf("%s: %s", how, why)
				}
			} else {
				r.verdict()
			}
			r.sameLosses(want)
		})
	}
}
