package k8s

import (
	"errors"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
)

// installed skips where a project's controller is not on the cluster, which is told by its webhooks.
func installed(t *testing.T, project string) {
	t.Helper()
	out, err := kubectl(t, "", "get", "validatingwebhookconfigurations", "-o", "name")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(out, project) {
		t.Skipf("this cluster has no webhooks of %s: it is not installed", project)
	}
}

// newSet is a trial of three pods in a JobSet.
func newSet(t *testing.T, config string) *trial {
	t.Helper()
	return newTrial(t, config, func(o *Options) { o.MinNodes, o.MaxNodes, o.JobSet = 3, 3, true }).corpus()
}

// setEnded waits until the JobSet has ended and returns how.
func (r *trial) setEnded() (state string) {
	r.Helper()
	r.until("the end of the JobSet", func() error {
		var set struct {
			Status struct {
				TerminalState string `json:"terminalState"`
			} `json:"status"`
		}
		r.get("jobset", r.options.Name, &set)
		if state = set.Status.TerminalState; state == "" {
			return errors.New("it goes on")
		}
		return nil
	})
	return state
}

// TestJobSet: JobSet's own controller makes the Job and the Service from what is written, and the run in it is as in a plain Job.
func TestJobSet(t *testing.T) {
	gathered := gather(t)
	severalNodes(t)
	installed(t, "jobset")
	want := undisturbed(t, gathered)
	for _, c := range []struct {
		name   string
		befall func(r *trial)
	}{
		{"a pod is deleted", func(r *trial) { r.deletePod("1") }},
		{"suspended and resumed", func(r *trial) {
			r.kubectl("patch", "jobset", r.options.Name, "--type", "merge", "-p", `{"spec":{"suspend":true}}`)
			r.running()
			r.kubectl("patch", "jobset", r.options.Name, "--type", "merge", "-p", `{"spec":{"suspend":false}}`)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newSet(t, trialConfig(nodesSteps))
			r.start(programs(gathered))
			r.reached(nodesFault)
			c.befall(r)
			if state := r.setEnded(); state != "Completed" {
				t.Fatalf("the JobSet is %s", state)
			}
			r.befallen(3)
			r.same(want)
		})
	}
	t.Run("a broken configuration fails it", func(t *testing.T) {
		r := newSet(t, strings.Replace(trialConfig(15), "model: model", "model: nowhere", 1))
		r.start(programs(gathered))
		if state := r.setEnded(); state != "Failed" {
			t.Errorf("the JobSet is %s", state)
		}
		if how, why := r.ended(); how != batchv1.JobFailed || !strings.Contains(why, batchv1.JobReasonPodFailurePolicy) {
			t.Errorf("its Job: %s: %s", how, why)
		}
	})
}
