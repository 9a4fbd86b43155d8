package k8s

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// kinds are the types that a manifest may be of.
var kinds = map[string]func() runtime.Object{
	"v1/ServiceAccount":                   func() runtime.Object { return &corev1.ServiceAccount{} },
	"v1/ConfigMap":                        func() runtime.Object { return &corev1.ConfigMap{} },
	"v1/Secret":                           func() runtime.Object { return &corev1.Secret{} },
	"v1/PersistentVolumeClaim":            func() runtime.Object { return &corev1.PersistentVolumeClaim{} },
	"v1/Service":                          func() runtime.Object { return &corev1.Service{} },
	"networking.k8s.io/v1/NetworkPolicy":  func() runtime.Object { return &networkingv1.NetworkPolicy{} },
	"policy/v1/PodDisruptionBudget":       func() runtime.Object { return &policyv1.PodDisruptionBudget{} },
	"monitoring.coreos.com/v1/PodMonitor": func() runtime.Object { return &PodMonitor{} },
	"batch/v1/Job":                        func() runtime.Object { return &batchv1.Job{} },
	"jobset.x-k8s.io/v1alpha2/JobSet":     func() runtime.Object { return &JobSet{} },
}

// decode reads a stream of manifests strictly: an unknown field or one that stands twice fails the test.
func decode(t *testing.T, stream string) []runtime.Object {
	t.Helper()
	var list []runtime.Object
	for doc := range strings.SplitSeq(stream, "\n---\n") {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(doc), &kind); err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		empty, found := kinds[kind.APIVersion+"/"+kind.Kind]
		if !found {
			t.Fatalf("unknown kind %s/%s", kind.APIVersion, kind.Kind)
		}
		object := empty()
		if err := yaml.UnmarshalStrict([]byte(doc), object); err != nil {
			t.Fatalf("%s: %v\n%s", kind.Kind, err, doc)
		}
		list = append(list, object)
	}
	return list
}

// TestManifestsOfAnyOptions: whatever the flags say, the manifests read back strictly as the objects that were written, and hold
// together.
func TestManifestsOfAnyOptions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 400 {
		o := randomOptions(r, "run")
		written, err := Objects(o)
		if err != nil {
			t.Fatalf("options %d: %v\n%+v", i, err, o)
		}
		var out strings.Builder
		if err := Write(&out, written); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String(), "status:") && !strings.Contains(out.String(), "- status: \"True\"") || strings.Contains(out.String(), "creationTimestamp") {
			t.Fatalf("options %d: what only a server writes is in\n%s", i, &out)
		}
		read := decode(t, out.String())
		if len(read) != len(written) {
			t.Fatalf("options %d: %d documents of %d objects", i, len(read), len(written))
		}
		for k := range read {
			if !equality.Semantic.DeepEqual(read[k], written[k].Object) {
				t.Fatalf("options %d: read back\n%+v\nwritten\n%+v", i, read[k], written[k].Object)
			}
		}
		for _, wrong := range faults(&o, read) {
			t.Errorf("options %d: %s\n%+v", i, wrong, o)
		}
		if t.Failed() {
			return
		}
	}
}

// faults returns how a set of manifests does not hold together.
func faults(o *Options, objects []runtime.Object) []string {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	made := map[string]bool{}
	var job *batchv1.JobSpec
	for _, object := range objects {
		m := object.(metav1.Object)
		kind := object.GetObjectKind().GroupVersionKind().Kind
		made[kind+" "+m.GetName()] = true
		if m.GetNamespace() != o.Namespace {
			say("%s lies in %q", kind, m.GetNamespace())
		}
		check := metav1.ObjectMeta{Name: m.GetName(), Namespace: "x", Labels: m.GetLabels(), Annotations: m.GetAnnotations()}
		for _, err := range apivalidation.ValidateObjectMeta(&check, true, apivalidation.NameIsDNSSubdomain, field.NewPath(kind)) {
			say("%v", err)
		}
		switch x := object.(type) {
		case *batchv1.Job:
			job = &x.Spec
		case *JobSet:
			job = &x.Spec.ReplicatedJobs[0].Template.Spec
		case *corev1.ServiceAccount:
			if *x.AutomountServiceAccountToken {
				say("the account's token is mounted")
			}
		case *corev1.Service:
			if x.Spec.ClusterIP != "None" || !x.Spec.PublishNotReadyAddresses || !reflect.DeepEqual(x.Spec.Selector, selector(o).MatchLabels) {
				say("Service %+v", x.Spec)
			}
		}
	}
	if job == nil {
		return append(wrong, "no Job")
	}
	pod := job.Template.Spec
	c := pod.Containers[0]
	policy := *job.PodReplacementPolicy
	switch {
	case (job.PodFailurePolicy == nil) != o.FastReplace, (policy == batchv1.TerminatingOrFailed) != o.FastReplace:
		say("replacement %s with failure policy %v", policy, job.PodFailurePolicy)
	case job.PodFailurePolicy != nil && (job.PodFailurePolicy.Rules[0].Action != batchv1.PodFailurePolicyActionIgnore ||
		job.PodFailurePolicy.Rules[0].OnPodConditions[0].Type != corev1.DisruptionTarget || *job.PodFailurePolicy.Rules[1].OnExitCodes.ContainerName != c.Name):
		say("failure policy %v", job.PodFailurePolicy)
	case *job.Completions != *job.Parallelism || int(*job.Completions) < o.MinNodes || int(*job.Completions) > o.MaxNodes:
		say("%d of %d nodes", *job.Parallelism, *job.Completions)
	case *job.BackoffLimit != int32(o.Retries*o.MaxNodes):
		say("backoffLimit %d", *job.BackoffLimit)
	}
	if pod.RestartPolicy != corev1.RestartPolicyNever || *pod.EnableServiceLinks || *pod.AutomountServiceAccountToken ||
		!*pod.SecurityContext.RunAsNonRoot || *pod.SecurityContext.RunAsUser == 0 || !*c.SecurityContext.ReadOnlyRootFilesystem ||
		*c.SecurityContext.AllowPrivilegeEscalation || c.SecurityContext.Capabilities.Drop[0] != "ALL" || len(c.SecurityContext.Capabilities.Add) > 0 ||
		pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || pod.HostNetwork || pod.HostPID || pod.HostIPC {
		say("the pod may more than it needs: %+v", pod)
	}
	if got := *pod.TerminationGracePeriodSeconds; got <= int64(o.Grace.Seconds()) {
		say("%d s of grace for an agent that takes %s", got, o.Grace)
	}
	if !selectorMatches(o, job.Template.Labels) {
		say("the selector does not find the pod's labels %v", job.Template.Labels)
	}
	for _, err := range metavalidation.ValidateLabels(job.Template.Labels, field.NewPath("pod")) {
		say("%v", err)
	}
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		if volumes[v.Name] {
			say("two volumes %s", v.Name)
		}
		volumes[v.Name] = true
		switch {
		case v.ConfigMap != nil && !made["ConfigMap "+v.ConfigMap.Name]:
			say("no ConfigMap %s", v.ConfigMap.Name)
		case v.Secret != nil && v.Secret.SecretName != o.KeySecret && !made["Secret "+v.Secret.SecretName]:
			say("no Secret %s", v.Secret.SecretName)
		}
	}
	if o.Claim == "" != made["PersistentVolumeClaim "+o.Name+"-data"] {
		say("claims: %v", slices.Sorted(maps.Keys(made)))
	}
	for _, m := range c.VolumeMounts {
		if !volumes[m.Name] {
			say("the mount %s has no volume", m.Name)
		}
	}
	if several := o.MaxNodes > 1; several && !o.JobSet != made["Service "+pod.Subdomain] || several != volumes["key"] {
		say("made %v, volumes %v", slices.Sorted(maps.Keys(made)), volumes)
	}
	if !made["ServiceAccount "+pod.ServiceAccountName] || !made["NetworkPolicy "+o.Name] {
		say("made %v", slices.Sorted(maps.Keys(made)))
	}
	return wrong
}

func selectorMatches(o *Options, labels map[string]string) bool {
	found, err := metav1.LabelSelectorAsSelector(selector(o))
	return err == nil && found.Matches(labelSet(labels))
}

// labelSet is labels as apimachinery's selectors read them.
type labelSet map[string]string

func (l labelSet) Has(key string) bool              { _, found := l[key]; return found }
func (l labelSet) Get(key string) string            { return l[key] }
func (l labelSet) Lookup(key string) (string, bool) { v, found := l[key]; return v, found }

// TestArguments: Kubernetes replaces $(NAME) in arguments, which a configuration may hold as it stands.
func TestArguments(t *testing.T) {
	o := Defaults()
	o.GPUs, o.Args = 8, []string{"--set", "data=$(HOME)/a$$b"}
	want := "ddprun --nproc 8 --max-restarts 10 --log-format json --set data=$$(HOME)/a$$$$b /etc/ddprun/train.yaml"
	if got := strings.Join(command(&o), " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	o = Defaults()
	o.MinNodes, o.MaxNodes, o.Grace, o.MetricsPort = 2, 2, time.Minute, 9400
	want = "ddprun --nproc 1 --max-restarts 10 --log-format json --advertise $(POD_IP) --leavers-return --grace 1m0s --metrics-addr :9400 /etc/ddprun/train.yaml"
	if got := strings.Join(command(&o), " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestEnvironment: what is told to the agent of a pod.
func TestEnvironment(t *testing.T) {
	o := Defaults()
	o.Name, o.MinNodes, o.MaxNodes = "run", 2, 20
	values := func() map[string]string {
		got := map[string]string{}
		for _, v := range environment(&o) {
			got[v.Name] = v.Value
			if v.ValueFrom != nil {
				got[v.Name] = v.ValueFrom.FieldRef.FieldPath
			}
		}
		return got
	}
	want := map[string]string{
		"HOME":             "/tmp",
		"DDPRUN_NNODES":    "2:20",
		"DDPRUN_NODE_RANK": "metadata.annotations['batch.kubernetes.io/job-completion-index']",
		"DDPRUN_RUN_ID":    "metadata.labels['batch.kubernetes.io/controller-uid']",
		"DDPRUN_JOIN":      "run,run-0.run,run-1.run,run-2.run,run-3.run,run-4.run,run-5.run,run-6.run,run-7.run",
		"DDPRUN_PORT":      "29400",
		"POD_IP":           "status.podIP",
		"DDPRUN_KEY_FILE":  "/etc/ddprun-key/key",
		"NODE_NAME":        "spec.nodeName",
		"DDPRUN_REMEDY":    "kubectl taint node $(NODE_NAME) node.kubernetes.io/out-of-service=nodeshutdown:NoExecute",
	}
	if got := values(); !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	o.FastReplace = true
	if got := values(); got["DDPRUN_REMEDY"] != "" {
		t.Errorf("--replace fast: %v", got)
	}
	o.FastReplace = false
	o.JobSet, o.MinNodes, o.MaxNodes = true, 2, 2
	if got := values()["DDPRUN_JOIN"]; got != "run,run-node-0-0.run,run-node-0-1.run" {
		t.Errorf("JobSet: %s", got)
	}
	o.JobSet, o.MinNodes, o.MaxNodes = false, 1, 1
	if got := values(); got["DDPRUN_NNODES"] != "1" || got["DDPRUN_JOIN"] != "" || got["DDPRUN_KEY_FILE"] != "" {
		t.Errorf("alone: %v", got)
	}
}

// TestKey: 32 random bytes, another one each time, and an error where there are none.
func TestKey(t *testing.T) {
	a, err := NewKey(strings.NewReader(strings.Repeat("k", 40)))
	if want := strings.Repeat("6b", 32); err != nil || a != want {
		t.Errorf("got %q, %v; want %q", a, err, want)
	}
	if _, err := NewKey(strings.NewReader("short")); err == nil {
		t.Error("a key of 5 bytes")
	}
}
