package k8s

import (
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The types below are the parts of JobSet (sigs.k8s.io/jobset, jobset.x-k8s.io/v1alpha2) and PodMonitor (Prometheus's operator,
// monitoring.coreos.com/v1) that are written here. Their own modules would bring controller-runtime into a program that talks
// to no cluster. A test with a real server holds them to the definitions that those projects install.

// JobSet is a set of Jobs that live and end together.
type JobSet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              JobSetSpec `json:"spec"`
}

// JobSetSpec says which Jobs, and that pods are known by name before they are ready.
type JobSetSpec struct {
	ReplicatedJobs []ReplicatedJob `json:"replicatedJobs"`
	Network        *JobSetNetwork  `json:"network,omitempty"`
	Suspend        *bool           `json:"suspend,omitempty"`
	TTL            *int32          `json:"ttlSecondsAfterFinished,omitempty"`
}

// ReplicatedJob is a Job that is made Replicas times.
type ReplicatedJob struct {
	Name     string                  `json:"name"`
	Replicas int32                   `json:"replicas"`
	Template batchv1.JobTemplateSpec `json:"template"`
}

// JobSetNetwork describes the Service that the JobSet's controller makes.
type JobSetNetwork struct {
	EnableDNSHostnames       *bool  `json:"enableDNSHostnames,omitempty"`
	Subdomain                string `json:"subdomain,omitempty"`
	PublishNotReadyAddresses *bool  `json:"publishNotReadyAddresses,omitempty"`
}

// PodMonitor asks Prometheus's operator to read metrics from pods.
type PodMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              PodMonitorSpec `json:"spec"`
}

// PodMonitorSpec says which pods.
type PodMonitorSpec struct {
	Selector  metav1.LabelSelector `json:"selector"`
	Endpoints []PodMetricsEndpoint `json:"podMetricsEndpoints"`
}

// PodMetricsEndpoint says where they answer.
type PodMetricsEndpoint struct {
	Port string `json:"port,omitempty"`
	Path string `json:"path,omitempty"`
}

var (
	jobSetVersion     = schema.GroupVersion{Group: "jobset.x-k8s.io", Version: "v1alpha2"}
	monitoringVersion = schema.GroupVersion{Group: "monitoring.coreos.com", Version: "v1"}
)

// DeepCopyObject makes JobSet a runtime.Object. Nothing here changes what it was given, so the copy may share.
func (j *JobSet) DeepCopyObject() runtime.Object { c := *j; return &c }

// DeepCopyObject makes PodMonitor a runtime.Object, as JobSet's does.
func (p *PodMonitor) DeepCopyObject() runtime.Object { c := *p; return &c }
