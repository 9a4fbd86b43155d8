package k8s

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// pretender stands for ddprun: at its first start it does what the trial is about, at the second it is done.
const pretender = `#!/bin/sh
[ "$1" != status ] || exit 0
echo start >>/workspace/starts
[ "$(wc -l </workspace/starts)" = 1 ] || exit 0
%s
`

// pretend starts a Job of one pod with retries, in which first is what ddprun does at first.
func pretend(t *testing.T, retries int, fast bool, first string) *trial {
	t.Helper()
	r := newTrial(t, "model: m\ndata: d\noutput_dir: out\n", func(o *Options) { o.Retries, o.FastReplace = retries, fast })
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "ddprun"), fmt.Appendf(nil, pretender, first), 0o755); err != nil {
		t.Fatal(err)
	}
	r.start(func(_ *trial, pod *corev1.PodSpec) { mount(pod, bin, "/usr/local/bin") })
	return r
}

// starts is how often a pod ran.
func (r *trial) starts() int {
	text, _ := os.ReadFile(filepath.Join(r.dir, "starts"))
	return strings.Count(string(text), "start")
}

// evict takes a pod away as a drain does.
func (r *trial) evict(pod string) {
	r.Helper()
	eviction := fmt.Sprintf(`{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":%q,"namespace":%q}}`, pod, r.options.Namespace)
	at := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/eviction", r.options.Namespace, pod)
	if out, err := kubectl(r.T, eviction, "create", "--raw", at, "-f", "-"); err != nil {
		r.Fatalf("%v\n%s", err, out)
	}
}

// TestExitCodes: what a real Job controller does after each exit code, with one failure that is forgiven.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		code, starts int
		fast         bool
		how          batchv1.JobConditionType
		why          string
	}{
		{0, 1, false, batchv1.JobComplete, batchv1.JobReasonCompletionsReached},
		{1, 1, false, batchv1.JobFailed, batchv1.JobReasonPodFailurePolicy},
		{2, 2, false, batchv1.JobComplete, batchv1.JobReasonCompletionsReached},
		{75, 2, false, batchv1.JobComplete, batchv1.JobReasonCompletionsReached},
		{78, 1, false, batchv1.JobFailed, batchv1.JobReasonPodFailurePolicy},
		{93, 1, false, batchv1.JobFailed, batchv1.JobReasonPodFailurePolicy},
		{137, 2, false, batchv1.JobComplete, batchv1.JobReasonCompletionsReached},
		{143, 2, false, batchv1.JobComplete, batchv1.JobReasonCompletionsReached},
		{78, 2, true, batchv1.JobComplete, batchv1.JobReasonCompletionsReached}, // the price of --replace fast
	} {
		t.Run(fmt.Sprint(c.code, " fast=", c.fast), func(t *testing.T) {
			t.Parallel()
			r := pretend(t, 1, c.fast, fmt.Sprintf("exit %d", c.code))
			how, why := r.ended()
			if how != c.how || !strings.HasPrefix(why, c.why+":") || r.starts() != c.starts {
				t.Errorf("%s (%s) after %d starts, want %s (%s) after %d", how, why, r.starts(), c.how, c.why, c.starts)
			}
		})
	}
	t.Run("retries are used up", func(t *testing.T) {
		t.Parallel()
		if how, why := pretend(t, 0, false, "exit 75").ended(); how != batchv1.JobFailed || !strings.HasPrefix(why, batchv1.JobReasonBackoffLimitExceeded) {
			t.Errorf("%s: %s", how, why)
		}
	})
	t.Run("an evicted pod counts as nothing", func(t *testing.T) {
		t.Parallel()
		r := pretend(t, 0, false, `trap "exit 1" TERM; while :; do sleep 0.1; done`) // 1 would fail the Job, were it asked about first
		r.until("the first start", func() error {
			if r.starts() == 0 {
				return fmt.Errorf("none yet")
			}
			return nil
		})
		r.evict(r.pods()[0].Name)
		if how, why := r.ended(); how != batchv1.JobComplete || r.starts() != 2 {
			t.Errorf("%s: %s after %d starts", how, why, r.starts())
		}
	})
}
