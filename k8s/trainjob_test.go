package k8s

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// corporaClaim is the volume of a trial under the name that the examples have for it.
const corporaClaim = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: corpora}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: %s
  resources: {requests: {storage: 1Gi}}
`

// trainJobExample is what examples/trainjob.yaml holds.
func trainJobExample(t *testing.T) (all []map[string]any) {
	t.Helper()
	text, err := os.ReadFile("examples/trainjob.yaml")
	if err != nil {
		t.Fatal(err)
	}
	documents := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		var object map[string]any
		if err := documents.Decode(&object); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, object)
	}
}

// runtimeJob is the Job's specification in a TrainingRuntime, read strictly.
func runtimeJob(t *testing.T, object map[string]any) (holder map[string]any, spec batchv1.JobSpec) {
	t.Helper()
	jobs := at(object, "spec", "template", "spec")["replicatedJobs"].([]any)
	holder = at(jobs[0].(map[string]any), "template")
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(at(holder, "spec"), &spec, true); err != nil {
		t.Fatal(err)
	}
	return holder, spec
}

// TestTrainJobExample: without a cluster, the example treats pods as the Jobs do that are written here.
func TestTrainJobExample(t *testing.T) {
	o := Defaults()
	o.MinNodes, o.MaxNodes = 4, 4
	want := jobSpec(&o)
	for _, object := range trainJobExample(t) {
		if object["kind"] != "TrainingRuntime" {
			continue
		}
		_, spec := runtimeJob(t, object)
		for _, rule := range spec.PodFailurePolicy.Rules {
			if rule.OnExitCodes != nil {
				rule.OnExitCodes.ContainerName = ptr(containerName)
			}
		}
		for what, pair := range map[string][2]any{
			"pod failure policy":   {spec.PodFailurePolicy, want.PodFailurePolicy},
			"replacement":          {spec.PodReplacementPolicy, want.PodReplacementPolicy},
			"back-off limit":       {spec.BackoffLimit, want.BackoffLimit},
			"container's security": {spec.Template.Spec.Containers[0].SecurityContext, want.Template.Spec.Containers[0].SecurityContext},
		} {
			if !reflect.DeepEqual(pair[0], pair[1]) {
				t.Errorf("%s is %+v, want %+v", what, pair[0], pair[1])
			}
		}
		return
	}
	t.Error("there is no TrainingRuntime in it")
}

// trainJob applies the example, for three pods with another configuration and the programs of this machine.
func (r *trial) trainJob(gathered, config string) {
	r.Helper()
	r.kubectl("create", "secret", "generic", "ddprun-key", "--from-literal=key="+r.options.Key)
	stream := bytes.NewBufferString(fmt.Sprintf(corporaClaim, r.options.StorageClass))
	for _, object := range trainJobExample(r.T) {
		switch object["kind"] {
		case "ConfigMap":
			object["data"] = map[string]any{"train.yaml": config}
		case "TrainJob":
			at(object, "spec", "trainer")["numNodes"] = 3
		case "TrainingRuntime":
			holder, spec := runtimeJob(r.T, object)
			spec.Template.Spec.Containers[0].Image = r.options.Image
			programs(gathered)(r, &spec.Template.Spec)
			var err error
			if holder["spec"], err = runtime.DefaultUnstructuredConverter.ToUnstructured(&spec); err != nil {
				r.Fatal(err)
			}
		}
		text, err := yaml.Marshal(object)
		if err != nil {
			r.Fatal(err)
		}
		stream.WriteString("---\n")
		stream.Write(text)
	}
	if out, err := kubectl(r.T, stream.String(), "-n", r.options.Namespace, "apply", "--validate=strict", "-f", "-"); err != nil {
		r.Fatalf("%v\n%s", err, out)
	}
}

// at is the map below keys of an object.
func at(object map[string]any, keys ...string) map[string]any {
	for _, key := range keys {
		object = object[key].(map[string]any)
	}
	return object
}

// trainJobStatus is what Kubeflow's controller tells of a TrainJob.
type trainJobStatus struct {
	Status struct {
		Conditions    []struct{ Type, Status, Message string }
		TrainerStatus struct {
			ProgressPercentage int
			Metrics            []struct{ Name, Value string }
		}
	}
}

// TestTrainJob: Kubeflow's own controllers run the example, a pod of which is deleted, and are told how far it is.
func TestTrainJob(t *testing.T) {
	gathered := gather(t)
	severalNodes(t)
	installed(t, "trainer")
	want := undisturbed(t, gathered)
	r := newTrial(t, "", nil).corpus()
	r.trainJob(gathered, trialConfig(nodesSteps))
	r.reached(nodesFault)
	r.deletePod("1")
	var job trainJobStatus
	progress := map[int]bool{}
	r.until("the end of the TrainJob", func() error {
		job = trainJobStatus{}
		r.get("trainjob", "ddprun", &job)
		progress[job.Status.TrainerStatus.ProgressPercentage] = true
		for _, c := range job.Status.Conditions {
			if c.Type == "Complete" && c.Status == "True" {
				return nil
			}
			if c.Type == "Failed" && c.Status == "True" {
				r.Fatalf("it has failed: %s", c.Message)
			}
		}
		return errors.New("it goes on")
	})
	told := job.Status.TrainerStatus
	t.Logf("progress was %v, the metrics are %v", progress, told.Metrics)
	if told.ProgressPercentage != 100 || len(progress) < 2 || !strings.Contains(fmt.Sprint(told.Metrics), "loss") {
		t.Errorf("the TrainJob was told %+v, and before %v", told, progress)
	}
	r.befallen(3)
	r.same(want)
}
