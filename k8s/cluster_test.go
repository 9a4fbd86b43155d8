package k8s

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// A trial is a run in a namespace of its own on the cluster of DDPRUN_K8S_ON. Its nodes see this machine's files, and have an
// image localhost/busybox:1: the programs come by hostPath, from what scripts/runtime.sh gathers as for the image.
type trial struct {
	*testing.T
	options Options
	dir     string // the shared volume
}

// waitFor bounds what a trial waits for; on busy cores it takes minutes.
const waitFor = 5 * time.Minute

// gather makes the runtime of the built programs, once for all trials below t.
func gather(t *testing.T) string {
	t.Helper()
	if os.Getenv("DDPRUN_K8S_ON") == "" {
		t.Skip("DDPRUN_K8S_ON is not set: no Kubernetes to run pods on (docs/kubernetes.md says what it names)")
	}
	if _, err := os.Stat("../bin/ddprun-worker"); err != nil {
		t.Skip("bin/ddprun-worker is not built (make build): no program to run in pods")
	}
	dir := filepath.Join(t.TempDir(), "runtime")
	if out, err := exec.CommandContext(t.Context(), "../scripts/runtime.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// newTrial makes the namespace and an empty volume; change may be nil.
func newTrial(t *testing.T, config string, change func(o *Options)) *trial {
	t.Helper()
	if os.Getenv("DDPRUN_K8S_ON") == "" {
		t.Skip("DDPRUN_K8S_ON is not set: no Kubernetes to run pods on (docs/kubernetes.md says what it names)")
	}
	o := Defaults()
	o.Namespace = fmt.Sprintf("ddprun-%d-%d", os.Getpid(), time.Now().UnixNano()%1e6)
	o.Image, o.Key, o.StorageClass = "localhost/busybox:1", strings.Repeat("5e", 32), o.Namespace
	o.Config = []byte(config)
	o.Writes = map[string]string{"output_dir": "out"}
	if change != nil {
		change(&o)
	}
	r := &trial{T: t, options: o, dir: t.TempDir()}
	// No driver of a hostPath knows fsGroup, so the volume is given to the pods' user here.
	if err := os.Chown(r.dir, int(o.User), int(o.User)); err != nil {
		t.Fatal(err)
	}
	directory := corev1.HostPathDirectory
	r.apply(
		&corev1.Namespace{TypeMeta: typeMeta(corev1.SchemeGroupVersion, "Namespace"), ObjectMeta: metav1.ObjectMeta{Name: o.Namespace}},
		&corev1.PersistentVolume{
			TypeMeta: typeMeta(corev1.SchemeGroupVersion, "PersistentVolume"), ObjectMeta: metav1.ObjectMeta{Name: o.Namespace},
			Spec: corev1.PersistentVolumeSpec{
				Capacity:                      corev1.ResourceList{corev1.ResourceStorage: *o.Storage},
				AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany, corev1.ReadWriteOnce},
				PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
				StorageClassName:              o.Namespace,
				PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: r.dir, Type: &directory}},
			}})
	t.Cleanup(func() {
		if t.Failed() {
			r.explain()
		}
		for _, args := range [][]string{{"delete", "namespace", o.Namespace, "--wait=false"}, {"delete", "persistentvolume", o.Namespace, "--wait=false"}} {
			if out, err := kubectl(t, "", args...); err != nil {
				t.Errorf("%v: %v\n%s", args, err, out)
			}
		}
	})
	return r
}

// pages are a text to train on, read once, so that trials can be compared while somebody writes at them.
var pages = sync.OnceValues(func() ([]byte, error) {
	var text []byte
	for _, name := range []string{"data.md", "configuration.md", "shard-format.md"} {
		page, err := os.ReadFile(filepath.Join("../docs", name))
		if err != nil {
			return nil, err
		}
		text = append(text, page...)
	}
	return text, nil
})

// corpus puts a small BERT and a text onto the volume.
func (r *trial) corpus() *trial {
	r.Helper()
	if err := os.CopyFS(filepath.Join(r.dir, "model"), os.DirFS("../examples/tiny-bert/model")); err != nil {
		r.Fatal(err)
	}
	text, err := pages()
	if err != nil {
		r.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "text.txt"), text, 0o644); err != nil {
		r.Fatal(err)
	}
	return r
}

// explain tells what the cluster knows of a trial that failed.
func (r *trial) explain() {
	for _, args := range [][]string{{"get", "job,pods", "-o", "wide"}, {"get", "events", "--sort-by=.lastTimestamp"}, {"describe", "pods"},
		{"logs", "-l", "app.kubernetes.io/instance=" + r.options.Name, "--tail=60", "--prefix"}} {
		out, _ := kubectl(r.T, "", append([]string{"-n", r.options.Namespace}, args...)...)
		r.Logf("%s:\n%s", strings.Join(args, " "), out)
	}
}

// kubectl runs it in the trial's namespace.
func (r *trial) kubectl(args ...string) string {
	r.Helper()
	out, err := kubectl(r.T, "", append([]string{"-n", r.options.Namespace}, args...)...)
	if err != nil {
		r.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (r *trial) apply(objects ...runtime.Object) {
	r.Helper()
	var list []Manifest
	for _, object := range objects {
		list = append(list, Manifest{"a trial's", object})
	}
	var stream bytes.Buffer
	if err := Write(&stream, list); err != nil {
		r.Fatal(err)
	}
	if out, err := kubectl(r.T, stream.String(), "apply", "--validate=strict", "-f", "-"); err != nil {
		r.Fatalf("%v\n%s", err, out)
	}
}

// start applies what Objects returns; bring puts the programs into its pods.
func (r *trial) start(bring func(r *trial, pod *corev1.PodSpec)) {
	r.Helper()
	list, err := Objects(r.options)
	if err != nil {
		r.Fatal(err)
	}
	var objects []runtime.Object
	for _, m := range list {
		switch o := m.Object.(type) {
		case *batchv1.Job:
			bring(r, &o.Spec.Template.Spec)
		case *JobSet:
			bring(r, &o.Spec.ReplicatedJobs[0].Template.Spec.Template.Spec)
		}
		objects = append(objects, m.Object)
	}
	r.apply(objects...)
}

// mount shows a directory of this machine in the pod, which cannot write to it.
func mount(pod *corev1.PodSpec, from, to string) {
	name := fmt.Sprintf("host-%d", len(pod.Volumes))
	pod.Volumes = append(pod.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: from}}})
	c := &pod.Containers[0]
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: to, ReadOnly: true})
}

// programs mounts what was gathered, and the machine's C library, where the image has them.
func programs(gathered string) func(r *trial, pod *corev1.PodSpec) {
	return func(r *trial, pod *corev1.PodSpec) {
		r.Helper()
		torch, err := exec.CommandContext(r.Context(), "../scripts/libtorch.sh", "find").Output()
		if err != nil {
			r.Fatal(err)
		}
		site := filepath.Dir(strings.TrimSpace(string(torch)))
		mount(pod, filepath.Join(gathered, site), site)
		mount(pod, filepath.Join(gathered, "usr/local/bin"), "/usr/local/bin")
		mount(pod, "/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu")
		mount(pod, "/lib64", "/lib64")
	}
}

// until waits for done, which says what is not yet as it should be.
func (r *trial) until(what string, done func() error) {
	r.Helper()
	var last error
	for end := time.Now().Add(waitFor); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		if last = done(); last == nil {
			return
		}
	}
	r.Fatalf("%s: not within %s: %v", what, waitFor, last)
}

func (r *trial) get(kind, name string, into any) {
	r.Helper()
	if err := json.Unmarshal([]byte(r.kubectl("get", kind, name, "-o", "json")), into); err != nil {
		r.Fatal(err)
	}
}

func (r *trial) job() *batchv1.Job {
	r.Helper()
	var job batchv1.Job
	r.get("job", r.options.job(), &job)
	return &job
}

// ended waits until the Job is Complete or Failed and returns which, with the reason and message.
func (r *trial) ended() (condition batchv1.JobConditionType, why string) {
	r.Helper()
	r.until("the end of the Job", func() error {
		job := r.job()
		for _, c := range job.Status.Conditions {
			if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) {
				condition, why = c.Type, c.Reason+": "+c.Message
				return nil
			}
		}
		return fmt.Errorf("%+v", job.Status)
	})
	return condition, why
}

func (r *trial) pods() []corev1.Pod {
	r.Helper()
	var list corev1.PodList
	if err := json.Unmarshal([]byte(r.kubectl("get", "pods", "-o", "json")), &list); err != nil {
		r.Fatal(err)
	}
	return list.Items
}

// steps are the training steps that metrics.jsonl holds, the last entry of each: step -> loss.
func (r *trial) steps() map[int]float64 {
	text, err := os.ReadFile(filepath.Join(r.dir, "out/metrics.jsonl"))
	if err != nil {
		return nil
	}
	losses := map[int]float64{}
	for line := range strings.Lines(string(text)) {
		var entry struct {
			Step int      `json:"step"`
			Loss *float64 `json:"loss"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Loss != nil {
			losses[entry.Step] = *entry.Loss
		}
	}
	return losses
}

// reached waits until the run has logged that step.
func (r *trial) reached(step int) {
	r.Helper()
	r.until(fmt.Sprintf("step %d", step), func() error {
		if at := r.last(); at < step {
			return fmt.Errorf("at step %d", at)
		}
		return nil
	})
}

// last is the highest step that is logged.
func (r *trial) last() int {
	at := 0
	for step := range r.steps() {
		at = max(at, step)
	}
	return at
}

// trialConfig trains the small BERT for so many steps, which any 1, 2 or 3 ranks share.
func trialConfig(steps int) string {
	return fmt.Sprintf(`model: model
data: text.txt
output_dir: out
max_seq_length: 64
per_device_train_batch_size: 4
global_batch_size: 24
max_steps: %d
num_train_epochs: 1000
learning_rate: 1e-4
logging_steps: 1
save_steps: 10
save_total_limit: 2
threads_per_rank: 1
device: cpu
`, steps)
}

// TestPods runs pods for real.
func TestPods(t *testing.T) {
	real := programs(gather(t))

	t.Run("one pod trains", func(t *testing.T) {
		r := newTrial(t, trialConfig(15), nil).corpus()
		r.start(real)
		if how, why := r.ended(); how != batchv1.JobComplete {
			t.Fatalf("%s: %s", how, why)
		}
		if got := len(r.steps()); got != 15 {
			t.Errorf("%d steps are logged, want 15", got)
		}
		if info, err := os.Stat(filepath.Join(r.dir, "out/model.safetensors")); err != nil || info.Sys().(*syscall.Stat_t).Uid != uint32(r.options.User) {
			t.Errorf("the model: %v, %+v", err, info)
		}
	})

	t.Run("one pod trains from the image", func(t *testing.T) {
		image := os.Getenv("DDPRUN_K8S_IMAGE")
		if image == "" {
			t.Skip("DDPRUN_K8S_IMAGE is not set: the nodes have no image of k8s/Dockerfile (make test-image IMAGE_TAR=FILE writes one)")
		}
		r := newTrial(t, trialConfig(15), func(o *Options) { o.Image = image }).corpus()
		r.start(func(*trial, *corev1.PodSpec) {}) // all it needs is in the image
		if how, why := r.ended(); how != batchv1.JobComplete {
			t.Fatalf("%s: %s", how, why)
		}
		if got := len(r.steps()); got != 15 {
			t.Errorf("%d steps are logged, want 15", got)
		}
	})

	t.Run("a broken configuration fails the Job with its message", func(t *testing.T) {
		r := newTrial(t, strings.Replace(trialConfig(15), "model: model", "model: nowhere", 1), nil).corpus()
		begin := time.Now()
		r.start(real)
		how, why := r.ended()
		t.Logf("failed after %s: %s", time.Since(begin).Round(100*time.Millisecond), why)
		if how != batchv1.JobFailed || !strings.HasPrefix(why, batchv1.JobReasonPodFailurePolicy) || !strings.Contains(why, "exit code 78") {
			t.Errorf("%s: %s", how, why)
		}
		pods := r.pods()
		if len(pods) != 1 {
			t.Fatalf("%d pods were made", len(pods))
		}
		end := pods[0].Status.ContainerStatuses[0].State.Terminated
		if want := "model: model directory nowhere does not exist"; end == nil || end.ExitCode != 78 || !strings.Contains(end.Message, want) {
			t.Errorf("the pod's end is %+v, want code 78 and a message with %s", end, want)
		}
	})
}
