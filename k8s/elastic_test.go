package k8s

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// stander stands for ddprun in several pods: it notes what it was told, waits for the end of the run, and leaves with 75 when asked to.
const stander = `#!/bin/sh
[ "$1" != status ] || exit 0
trap "exit 75" TERM
for host in $(echo $DDPRUN_JOIN | tr , ' '); do
	until nslookup $host.$NAMESPACE.svc.cluster.local >/dev/null 2>&1; do sleep 0.2; [ ! -e /workspace/done ] || exit 0; done
	[ $host != $HOSTNAME.ddprun ] || break # pods with a higher index need not be there
done
echo "rank=$DDPRUN_NODE_RANK index=$JOB_COMPLETION_INDEX host=$HOSTNAME nnodes=$DDPRUN_NNODES run=$DDPRUN_RUN_ID address=$POD_IP key=$(cat $DDPRUN_KEY_FILE)" >>/workspace/starts
while [ ! -e /workspace/done ]; do sleep 0.1; done
`

// stand starts a Job of stand-ins.
func stand(t *testing.T, change func(o *Options)) *trial {
	t.Helper()
	r := newTrial(t, "model: m\ndata: d\noutput_dir: out\n", change)
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "ddprun"), []byte(stander), 0o755); err != nil {
		t.Fatal(err)
	}
	r.start(func(r *trial, pod *corev1.PodSpec) {
		mount(pod, bin, "/usr/local/bin")
		pod.Containers[0].Env = append(pod.Containers[0].Env, corev1.EnvVar{Name: "NAMESPACE", Value: r.options.Namespace})
	})
	return r
}

// finish lets the stand-ins end.
func (r *trial) finish() {
	r.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, "done"), nil, 0o644); err != nil {
		r.Fatal(err)
	}
}

// running waits until just the pods of these indexes run, and none is on its way out.
func (r *trial) running(want ...string) {
	r.Helper()
	r.until(fmt.Sprintf("pods %v", want), func() error {
		var have []string
		for _, pod := range r.pods() {
			if pod.DeletionTimestamp != nil {
				return fmt.Errorf("%s is being deleted", pod.Name)
			}
			if pod.Status.Phase == corev1.PodRunning && len(pod.Status.ContainerStatuses) == 1 && pod.Status.ContainerStatuses[0].Ready {
				have = append(have, pod.Annotations[batchv1.JobCompletionIndexAnnotation])
			}
		}
		if slices.Sort(have); !slices.Equal(have, want) {
			return fmt.Errorf("%v are ready", have)
		}
		return nil
	})
}

func (r *trial) resize(nodes int) {
	r.Helper()
	r.kubectl("patch", "job", r.options.Name, "-p", fmt.Sprintf(`{"spec":{"parallelism":%d,"completions":%[1]d}}`, nodes))
}

// TestPodsAreTold: three pods from a cold start have their ranks, one run, the key, their own addresses, and find each other's names.
func TestPodsAreTold(t *testing.T) {
	t.Parallel()
	r := stand(t, func(o *Options) { o.MinNodes, o.MaxNodes = 3, 3 })
	r.running("0", "1", "2")
	var lines []string
	r.until("what the pods were told", func() error {
		text, err := os.ReadFile(filepath.Join(r.dir, "starts"))
		if lines = strings.Split(strings.TrimSpace(string(text)), "\n"); len(lines) != 3 {
			return fmt.Errorf("%q, %v", lines, err)
		}
		return nil
	})
	var want []string
	job := r.job()
	for _, pod := range r.pods() {
		i := pod.Annotations[batchv1.JobCompletionIndexAnnotation]
		want = append(want, fmt.Sprintf("rank=%s index=%[1]s host=ddprun-%[1]s nnodes=3 run=%s address=%s key=%s", i, job.UID, pod.Status.PodIP, r.options.Key))
	}
	slices.Sort(lines)
	slices.Sort(want)
	if !slices.Equal(lines, want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	r.finish()
	if how, why := r.ended(); how != batchv1.JobComplete {
		t.Errorf("%s: %s", how, why)
	}
}

// TestResize: 2, 3 and again 2 pods by patches, suspended and resumed, a pod deleted and made anew; none of it counts as a failure.
func TestResize(t *testing.T) {
	t.Parallel()
	r := stand(t, func(o *Options) { o.MinNodes, o.MaxNodes, o.StartNodes, o.Retries = 2, 4, 2, 0 })
	r.running("0", "1")
	r.resize(3)
	r.running("0", "1", "2")
	r.resize(2)
	r.running("0", "1")
	r.kubectl("patch", "job", r.options.Name, "-p", `{"spec":{"suspend":true}}`)
	r.running()
	r.kubectl("patch", "job", r.options.Name, "-p", `{"spec":{"suspend":false}}`)
	r.running("0", "1")
	r.finish()
	if how, why := r.ended(); how != batchv1.JobComplete {
		t.Errorf("%s: %s", how, why)
	}
	if failed := r.job().Status.Failed; failed != 0 {
		t.Errorf("%d pods count as failed", failed)
	}
}

// power runs one of the cluster's scripts: host-kill NODE, host-start NODE, net NODE up|down.
func (r *trial) power(script string, args ...string) {
	r.Helper()
	program := filepath.Join(filepath.Dir(os.Getenv("DDPRUN_K8S_ON")), script)
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		r.Fatalf("%s %v: %v\n%s", script, args, err, out)
	}
}

// restore starts a node again and waits until it is ready.
func (r *trial) restore(node string) {
	r.Helper()
	r.power("host-start", node)
	r.until(node+" ready again", func() error {
		if out, err := kubectl(r.T, "", "get", "node", node, "--no-headers"); err != nil || !strings.Contains(out, " Ready ") { // deleted, it comes anew
			return errors.New(out)
		}
		return nil
	})
}

// pod is that of an index, if it is not on its way out.
func (r *trial) pod(index string) corev1.Pod {
	r.Helper()
	for _, pod := range r.pods() {
		if pod.DeletionTimestamp == nil && pod.Annotations[batchv1.JobCompletionIndexAnnotation] == index {
			return pod
		}
	}
	return corev1.Pod{}
}

// deletePod deletes the pod of an index, as people do, and does not wait for its end.
func (r *trial) deletePod(index string, flags ...string) {
	r.Helper()
	r.kubectl(append([]string{"delete", "pod", "-l", batchv1.JobCompletionIndexAnnotation + "=" + index, "--wait=false"}, flags...)...)
}

func (r *trial) node(index string) string { return r.pod(index).Spec.NodeName }

// verdict waits until the Job has succeeded. It is Complete when pods on lost nodes are gone too.
func (r *trial) verdict() {
	r.Helper()
	r.until("the Job's verdict", func() error {
		for _, c := range r.job().Status.Conditions {
			if c.Type == batchv1.JobSuccessCriteriaMet && c.Status == corev1.ConditionTrue {
				return nil
			}
			if c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue {
				r.Fatalf("the Job has failed: %s: %s", c.Reason, c.Message)
			}
		}
		return errors.New("none yet")
	})
}

// nodesToPower skips where there is no way to power nodes off.
func nodesToPower(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(filepath.Dir(os.Getenv("DDPRUN_K8S_ON")), "host-kill")); err != nil {
		t.Skip("DDPRUN_K8S_ON has no host-kill beside it: no node to power off")
	}
}

// TestLostNode powers a node off under a pod. It is not made anew until somebody says that it has ended, or at once with FastReplace.
func TestLostNode(t *testing.T) {
	nodesToPower(t)
	for _, fast := range []bool{false, true} {
		t.Run(fmt.Sprint("fast=", fast), func(t *testing.T) {
			r := stand(t, func(o *Options) {
				o.MinNodes, o.MaxNodes, o.StartNodes, o.FastReplace, o.EvictAfter, o.Retries = 1, 3, 2, fast, 0, 5
			})
			r.running("0", "1")
			lost := r.node("1")
			if lost == r.node("0") {
				t.Fatalf("both pods are on %s", lost)
			}
			r.power("host-kill", lost)
			defer func() {
				r.restore(lost)
				if how, why := r.ended(); how != batchv1.JobComplete {
					t.Errorf("%s: %s", how, why)
				}
			}()
			r.givenUp(lost)
			replaced := func() error {
				if r.node("1") == "" {
					return errors.New("not replaced")
				}
				return nil
			}
			if !fast {
				if replaced() == nil {
					t.Error("the pod was made anew although the old one is not known to have ended")
				}
				// Deleting the pod by force does not help: the Job's finalizer holds it. This does, within 20 s (the period of pods' garbage collector).
				taint := corev1.TaintNodeOutOfService + "=nodeshutdown:NoExecute"
				r.kubectl("taint", "node", lost, taint)
				defer r.kubectl("taint", "node", lost, taint+"-")
			}
			r.until("a new pod", replaced)
			r.until("that it runs", func() error {
				if text, err := os.ReadFile(filepath.Join(r.dir, "starts")); strings.Count(string(text), "rank=1 ") != 2 {
					return fmt.Errorf("%s%v", text, err)
				}
				return nil
			})
			r.finish()
			r.verdict()
		})
	}
}
