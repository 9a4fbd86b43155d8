package k8s

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
)

// kueue is what an administrator makes: so many pods may run in the namespace's queue at a time.
const kueue = `
apiVersion: kueue.x-k8s.io/v1beta1
kind: ResourceFlavor
metadata: {name: %[1]s}
---
apiVersion: kueue.x-k8s.io/v1beta1
kind: ClusterQueue
metadata: {name: %[1]s}
spec:
  namespaceSelector: {}
  resourceGroups:
  - coveredResources: [pods]
    flavors:
    - name: %[1]s
      resources: [{name: pods, nominalQuota: %[2]d}]
---
apiVersion: kueue.x-k8s.io/v1beta1
kind: LocalQueue
metadata: {name: team, namespace: %[1]s}
spec: {clusterQueue: %[1]s}
`

// quota says how many pods of the queue may run at a time.
func (r *trial) quota(pods int) {
	r.Helper()
	if out, err := kubectl(r.T, fmt.Sprintf(kueue, r.options.Namespace, pods), "apply", "-f", "-"); err != nil {
		r.Fatalf("%v\n%s", err, out)
	}
}

// newQueued is a trial of some nodes that waits for its turn, in a queue of so many pods.
func newQueued(t *testing.T, low, high, pods int) *trial {
	t.Helper()
	r := newTrial(t, trialConfig(nodesSteps), func(o *Options) { o.MinNodes, o.MaxNodes, o.Queue = low, high, "team" }).corpus()
	t.Cleanup(func() {
		for _, kind := range []string{"clusterqueue", "resourceflavor"} {
			if out, err := kubectl(t, "", "delete", kind, r.options.Namespace, "--wait=false"); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		}
	})
	r.quota(pods)
	return r
}

// active has Kueue evict the run, or take it up again.
func (r *trial) active(is bool) {
	r.Helper()
	var list struct {
		Items []struct{ Metadata struct{ Name string } }
	}
	if err := json.Unmarshal([]byte(r.kubectl("get", "workloads", "-o", "json")), &list); err != nil || len(list.Items) != 1 {
		r.Fatalf("%d workloads: %v", len(list.Items), err)
	}
	r.kubectl("patch", "workload", list.Items[0].Metadata.Name, "--type", "merge", "-p", fmt.Sprintf(`{"spec":{"active":%t}}`, is))
}

// TestKueue: Kueue's own controller starts what waits in its queue, evicts it, and begins an elastic run with fewer.
func TestKueue(t *testing.T) {
	gathered := gather(t)
	severalNodes(t)
	installed(t, "kueue")
	want := undisturbed(t, gathered)
	t.Run("waits for its turn, is evicted, and goes on", func(t *testing.T) {
		r := newQueued(t, 3, 3, 2)
		r.start(programs(gathered))
		time.Sleep(5 * time.Second) // there is nothing to wait for where nothing happens
		if pods := r.pods(); len(pods) != 0 {
			t.Errorf("%d pods run where there is room for 2 of 3", len(pods))
		}
		r.quota(3)
		r.reached(nodesFault)
		r.active(false)
		r.running()
		r.active(true)
		if how, why := r.ended(); how != batchv1.JobComplete {
			t.Fatalf("%s: %s", how, why)
		}
		r.befallen(3)
		r.same(want)
	})
	t.Run("an elastic run begins with fewer", func(t *testing.T) {
		r := newQueued(t, 2, 3, 2)
		r.start(programs(gathered))
		r.verdict()
		if job := r.job(); *job.Spec.Parallelism != 2 || *job.Spec.Completions != 2 {
			t.Errorf("%d pods at a time, %d in all, want 2", *job.Spec.Parallelism, *job.Spec.Completions)
		}
		r.same(want)
	})
}
