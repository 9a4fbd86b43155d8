package k8s

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// nodesSteps is how long the trials below train: long enough that what befalls them at nodesFault befalls them on the way.
const (
	nodesSteps = 80
	nodesFault = 15
)

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

// modelInfo is of the file with the final weights.
func (r *trial) modelInfo() os.FileInfo {
	r.Helper()
	info, err := os.Stat(filepath.Join(r.dir, "out/model.safetensors"))
	if err != nil {
		r.Fatal(err)
	}
	return info
}

// TestNodes: runs of several pods, with what befalls pods of a Job. Each comes to what an undisturbed run comes to.
func TestNodes(t *testing.T) {
	gathered := gather(t)
	severalNodes(t)
	want := sync.OnceValue(func() result { return undisturbed(t, gathered) })
	fixed := func(o *Options) { o.MinNodes, o.MaxNodes = 3, 3 }
	limited := func(o *Options) {
		memory := resource.MustParse("1Gi")
		o.MinNodes, o.MaxNodes, o.Memory, o.SharedMemory = 3, 3, &memory, &memory
	}
	elastic := func(o *Options) { o.MinNodes, o.MaxNodes, o.StartNodes = 2, 3, 2 }
	for _, c := range []struct {
		name   string
		change func(o *Options)
		befall func(r *trial) // nil: nothing
		stay   []string       // indexes of pods that go on through it
	}{
		{"three pods find each other", fixed, nil, nil},
		{"a pod is deleted", fixed, func(r *trial) { r.deletePod("1") }, []string{"0", "2"}},
		{"the first pod is killed", fixed, func(r *trial) { r.deletePod("0", "--force", "--grace-period=0") }, []string{"1", "2"}},
		{"a pod is evicted", fixed, func(r *trial) {
			r.running("0", "1", "2")
			r.evict(r.pod("2").Name)
		}, []string{"0", "1"}},
		{"a rank is killed for memory", limited, func(r *trial) {
			// /dev/shm counts as the pod's memory, and the rank is the largest of its processes.
			r.kubectl("exec", r.pod("1").Name, "--", "sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=880; sleep 1; rm /dev/shm/x; true")
		}, []string{"0", "1", "2"}},
		{"suspended and resumed", fixed, func(r *trial) {
			r.kubectl("patch", "job", r.options.Name, "-p", `{"spec":{"suspend":true}}`)
			r.running()
			r.kubectl("patch", "job", r.options.Name, "-p", `{"spec":{"suspend":false}}`)
		}, nil},
		{"2, 3 and again 2 pods", elastic, func(r *trial) {
			r.resize(3)
			r.until("three ranks", func() error {
				if worlds := r.worlds(); worlds[len(worlds)-1] != 3 {
					return fmt.Errorf("generations of %v", worlds)
				}
				return nil
			})
			r.reached(r.last() + 5)
			r.resize(2)
		}, []string{"0", "1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newTrial(t, trialConfig(nodesSteps), c.change).corpus()
			begin := time.Now()
			r.start(programs(gathered))
			r.reached(nodesFault)
			t.Logf("step %d after %s", nodesFault, time.Since(begin).Round(time.Second))
			stay := map[string]string{}
			for _, index := range c.stay {
				stay[index] = r.pod(index).Name
			}
			if c.befall != nil {
				c.befall(r)
			}
			if how, why := r.ended(); how != batchv1.JobComplete {
				t.Fatalf("%s: %s", how, why)
			}
			t.Logf("done after %s", time.Since(begin).Round(time.Second))
			switch {
			case c.befall == nil:
			case r.options.MinNodes == 3:
				r.befallen(3)
			default:
				r.befallen(2, 3, 2)
			}
			for index, name := range stay {
				if now := r.pod(index).Name; now != name {
					t.Errorf("pod %s is another one than before: %s, it was %s", index, now, name)
				}
			}
			r.same(want())
		})
	}
	t.Run("a pod that starts after the end is done", func(t *testing.T) {
		r := newTrial(t, trialConfig(5), fixed).corpus()
		r.start(programs(gathered))
		if how, why := r.ended(); how != batchv1.JobComplete {
			t.Fatalf("%s: %s", how, why)
		}
		before, saved := r.steps(), r.modelInfo()
		r.kubectl("delete", "job", r.options.Name)
		r.start(programs(gathered))
		if how, why := r.ended(); how != batchv1.JobComplete || !maps.Equal(before, r.steps()) {
			t.Errorf("%s: %s; losses %v, then %v", how, why, before, r.steps())
		}
		if now := r.modelInfo(); !os.SameFile(saved, now) || !saved.ModTime().Equal(now.ModTime()) {
			t.Error("the model was written again")
		}
	})
}
