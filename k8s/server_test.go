package k8s

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kubectl runs kubectl against the cluster whose script "on" the variable DDPRUN_K8S_ON names: "$DDPRUN_K8S_ON ctl kubectl ..."
// reaches it. It skips the test where there is none. Clean-ups call it too, so the end of t's context does not end it.
func kubectl(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	on := os.Getenv("DDPRUN_K8S_ON")
	if on == "" {
		t.Skip("DDPRUN_K8S_ON is not set: no Kubernetes to ask (docs/kubernetes.md says what it names)")
	}
	cmd := exec.Command(on, append([]string{"ctl", "kubectl"}, args...)...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &out
	err := cmd.Run()
	return out.String(), err
}

// TestServerTakesAnyOptions: a real API server, with strict validation of fields, takes a sample of what TestManifestsOfAnyOptions
// looks at. Kinds that it does not know (JobSet, PodMonitor) are left out, and said so.
func TestServerTakesAnyOptions(t *testing.T) {
	resources, err := kubectl(t, "", "api-resources", "--no-headers", "-o", "name")
	if err != nil {
		t.Fatalf("%v\n%s", err, resources)
	}
	unknown := map[string]bool{
		"JobSet":     !strings.Contains(resources, "jobsets.jobset.x-k8s.io"),
		"PodMonitor": !strings.Contains(resources, "podmonitors.monitoring.coreos.com"),
	}
	for kind, missing := range unknown {
		if missing {
			t.Logf("the server does not know %s; none is asked of it", kind)
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	var all []Manifest
	for i := range 60 {
		o := randomOptions(r, fmt.Sprintf("run-%d", i))
		list, err := Objects(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			if !unknown[m.Object.GetObjectKind().GroupVersionKind().Kind] {
				all = append(all, m)
			}
		}
	}
	var stream strings.Builder
	if err := Write(&stream, all); err != nil {
		t.Fatal(err)
	}
	out, err := kubectl(t, stream.String(), "apply", "--dry-run=server", "--validate=strict", "-f", "-")
	if created := strings.Count(out, " created (server dry run)"); err != nil || created != len(all) {
		t.Errorf("%d of %d objects were taken: %v\n%s", created, len(all), err, out)
	}
	if strings.Contains(out, "Warning") {
		t.Errorf("the server warns:\n%s", out)
	}
}

// TestServerRefuses: the test above can fail.
func TestServerRefuses(t *testing.T) {
	o := Defaults()
	o.Image, o.Key = "ddprun:1", "key"
	list, err := Objects(o)
	if err != nil {
		t.Fatal(err)
	}
	var stream strings.Builder
	if err := Write(&stream, list); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"podReplacementPolicy: Failed": "podReplacementPolicy: TerminatingOrFailed", "restartPolicy:": "restartPolice:"} {
		out, err := kubectl(t, strings.Replace(stream.String(), from, to, 1), "apply", "--dry-run=server", "--validate=strict", "-f", "-")
		if err == nil {
			t.Errorf("%s was taken:\n%s", to, out)
		}
	}
}

// TestServerRestricted: a namespace that enforces the standard "restricted" takes the pods.
func TestServerRestricted(t *testing.T) {
	name := fmt.Sprintf("ddprun-restricted-%d", os.Getpid())
	namespace := fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {pod-security.kubernetes.io/enforce: restricted}}}", name)
	if out, err := kubectl(t, namespace, "apply", "-f", "-"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	defer func() {
		if out, err := kubectl(t, "", "delete", "namespace", name, "--wait=false"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}()
	account := fmt.Sprintf("{apiVersion: v1, kind: ServiceAccount, metadata: {name: run, namespace: %s}}", name)
	if out, err := kubectl(t, account, "apply", "-f", "-"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r := rand.New(rand.NewPCG(5, 6))
	var pods []Manifest
	for i := range 20 {
		o := randomOptions(r, "run")
		pods = append(pods, Manifest{"a pod of the Job", asPod(&o, fmt.Sprintf("run-%d", i), name)})
	}
	var stream strings.Builder
	if err := Write(&stream, pods); err != nil {
		t.Fatal(err)
	}
	if out, err := kubectl(t, stream.String(), "apply", "--dry-run=server", "-f", "-"); err != nil || strings.Count(out, " created") != len(pods) {
		t.Errorf("%v\n%s", err, out)
	}
	spoilt := strings.ReplaceAll(stream.String(), "runAsNonRoot: true", "runAsNonRoot: false")
	if out, err := kubectl(t, spoilt, "apply", "--dry-run=server", "-f", "-"); err == nil || !strings.Contains(out, "violates PodSecurity") {
		t.Errorf("pods that run as root are taken: %v\n%s", err, out)
	}
}

// asPod is a pod as the Job controller makes it, in as far as what it may do is concerned.
func asPod(o *Options, name, namespace string) *corev1.Pod {
	template := podTemplate(o)
	return &corev1.Pod{TypeMeta: typeMeta(corev1.SchemeGroupVersion, "Pod"),
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: template.Labels}, Spec: template.Spec}
}
