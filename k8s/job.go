package k8s

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// replicatedJob is the name of the one Job in a JobSet, a part of its pods' names.
const replicatedJob = "node"

// jobSpec has one index a node. In an elastic run parallelism and completions are changed together while it goes on.
func jobSpec(o *Options) batchv1.JobSpec {
	nodes, indexed := int32(o.startNodes()), batchv1.IndexedCompletion
	spec := batchv1.JobSpec{
		CompletionMode: &indexed,
		Completions:    &nodes,
		Parallelism:    ptr(nodes),
		BackoffLimit:   ptr(int32(o.Retries * o.MaxNodes)),
		Template:       podTemplate(o),
	}
	if o.FastReplace {
		spec.PodReplacementPolicy = ptr(batchv1.TerminatingOrFailed)
	} else {
		spec.PodReplacementPolicy = ptr(batchv1.Failed) // the only one beside a podFailurePolicy
		spec.PodFailurePolicy = failurePolicy()
	}
	if o.elastic() {
		// An agent ends with 0 when the run is finished, never before; a pod on a node that is gone must not keep the Job open.
		spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededCount: ptr(int32(1))}}}
	}
	return spec
}

// workload is the Job, or the JobSet with the Job in it.
func workload(o *Options) runtime.Object {
	meta := meta(o, o.Name)
	if o.Queue != "" {
		meta.Labels["kueue.x-k8s.io/queue-name"] = o.Queue
	}
	var suspend *bool
	if o.Suspend || o.Queue != "" {
		suspend = ptr(true)
	}
	var ttl *int32
	if o.TTL > 0 {
		ttl = ptr(int32(seconds(o.TTL)))
	}
	if o.JobSet {
		return &JobSet{
			TypeMeta:   typeMeta(jobSetVersion, "JobSet"),
			ObjectMeta: meta,
			Spec: JobSetSpec{
				ReplicatedJobs: []ReplicatedJob{{Name: replicatedJob, Replicas: 1, Template: batchv1.JobTemplateSpec{Spec: jobSpec(o)}}},
				Network:        &JobSetNetwork{EnableDNSHostnames: ptr(true), Subdomain: o.Name, PublishNotReadyAddresses: ptr(true)},
				Suspend:        suspend,
				TTL:            ttl,
			},
		}
	}
	if o.Queue != "" && o.elastic() {
		// Kueue may begin with fewer, and keeps both numbers equal.
		meta.Annotations = map[string]string{
			"kueue.x-k8s.io/job-min-parallelism":               fmt.Sprint(o.MinNodes),
			"kueue.x-k8s.io/job-completions-equal-parallelism": "true",
		}
	}
	spec := jobSpec(o)
	spec.Suspend, spec.TTLSecondsAfterFinished = suspend, ttl
	return &batchv1.Job{TypeMeta: typeMeta(batchv1.SchemeGroupVersion, "Job"), ObjectMeta: meta, Spec: spec}
}
