package k8s

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// givenUp waits until Kubernetes has given up the pod on a lost node.
func (r *trial) givenUp(lost string) {
	r.Helper()
	r.until("the pod on "+lost+" given up", func() error {
		for _, pod := range r.pods() {
			if pod.Spec.NodeName == lost && pod.DeletionTimestamp != nil {
				return nil
			}
		}
		return errors.New("not yet")
	})
}

// remedy waits for what the agents on other nodes say about a lost one: the command that frees its pod.
func (r *trial) remedy(lost string) (command string) {
	r.Helper()
	r.until("the remedy in the log", func() error {
		for _, pod := range r.pods() {
			if pod.Spec.NodeName == lost {
				continue // nobody can read what it said
			}
			for line := range strings.Lines(r.kubectl("logs", pod.Name)) {
				var said struct{ Remedy string }
				if json.Unmarshal([]byte(line), &said) == nil && said.Remedy != "" {
					command = said.Remedy
					return nil
				}
			}
		}
		return errors.New("not yet")
	})
	return command
}

// waits wants the run to make no step and the Job to make no pod, until somebody does something.
func (r *trial) waits(index, lost string) (remedy string) {
	r.Helper()
	r.givenUp(lost)
	at := r.last()
	remedy = r.remedy(lost)
	if now, node := r.last(), r.node(index); now != at || node != "" {
		r.Errorf("a fixed run has gone on from step %d to %d without one of its pods (replaced on %q)", at, now, node)
	}
	return remedy
}

// advances waits until the run is ten steps further.
func (r *trial) advances(from int, since time.Time) {
	r.Helper()
	r.until("steps after the loss", func() error {
		if now := r.last(); now < from+10 {
			return fmt.Errorf("at step %d, lost at %d", now, from)
		}
		return nil
	})
	r.Logf("lost at step %d, ten steps later after %s", from, time.Since(since).Round(time.Second))
}

// TestLostNodes powers a node off under ddprun, and cuts its cable.
func TestLostNodes(t *testing.T) {
	gathered := gather(t)
	severalNodes(t)
	nodesToPower(t)
	want := undisturbed(t, gathered)
	fixed := func(o *Options) { o.MinNodes, o.MaxNodes = 3, 3 }
	fast := func(o *Options) { o.MinNodes, o.MaxNodes, o.FastReplace = 3, 3, true }
	for _, c := range []struct {
		name   string
		change func(o *Options)
		index  string                      // whose node is lost
		free   func(r *trial, lost string) // what people do; nil: nothing
		cable  bool
	}{
		{"an elastic run goes on", func(o *Options) { o.MinNodes, o.MaxNodes = 2, 3 }, "1", nil, false},
		{"a new pod elsewhere", fast, "2", nil, false},
		{"the first pod's cable", fast, "0", nil, true},
		{"a fixed run waits for what its log says", fixed, "1", func(r *trial, lost string) {
			command := r.waits("1", lost)
			if want := "kubectl taint node " + lost + " " + corev1.TaintNodeOutOfService + "=nodeshutdown:NoExecute"; command != want {
				r.Fatalf("the log says %q, want %q", command, want)
			}
			r.kubectl(strings.Fields(command)[1:]...)
			r.Cleanup(func() {
				if out, err := kubectl(r.T, "", "taint", "node", lost, corev1.TaintNodeOutOfService+"-"); err != nil {
					r.Errorf("%v\n%s", err, out)
				}
			})
		}, false},
		{"a fixed run whose node is deleted", fixed, "0", func(r *trial, lost string) {
			r.waits("0", lost)
			r.kubectl("delete", "node", lost)
		}, false},
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
			if c.free != nil {
				c.free(r, lost)
				t.Logf("freed after %s", time.Since(begin).Round(time.Second))
			}
			r.advances(at, begin)
			if c.cable { // the old rank comes back while the new one trains
				r.power("net", lost, "up")
			}
			if c.cable || c.free != nil {
				if how, why := r.ended(); how != batchv1.JobComplete {
					t.Fatalf("%s: %s", how, why)
				}
			} else {
				r.verdict()
			}
			t.Logf("done after %s", time.Since(begin).Round(time.Second))
			if r.options.MinNodes == 3 {
				r.befallen(3)
			} else {
				r.befallen(3, 2)
			}
			r.same(want)
		})
	}
}
