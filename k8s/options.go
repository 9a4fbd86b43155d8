package k8s

import (
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Options says what run the manifests start. A quantity that is nil is left to the cluster.
type Options struct {
	// Name is that of the Job and of the Service, and begins the others' names: pods are called Name-0, Name-1, ...
	Name string
	// Namespace is written into every object; empty: kubectl's own.
	Namespace string

	Image      string
	PullSecret string // the Secret that unlocks the image's registry; empty: none
	// Config is train.yaml as it stands, which a pod reads at configPath.
	Config []byte
	// Writes names what the configuration writes to, by its key (output_dir). Relative paths are relative to Mount.
	Writes map[string]string
	// Args are further arguments of ddprun, before the configuration's path.
	Args []string

	// MinNodes and MaxNodes bound the nodes (pods) of the run; where they differ it is elastic. StartNodes is how many are
	// asked for; 0: MaxNodes.
	MinNodes, MaxNodes, StartNodes int
	NProc                          int // ranks a node; 0: GPUs, or 1 where there are none
	MaxRestarts                    int // ddprun's own: of the ranks, in pods that stay

	GPUs        int
	GPUResource string // what the device plugin calls a GPU; empty: nvidia.com/gpu
	CPUs        *resource.Quantity
	Memory      *resource.Quantity
	// SharedMemory bounds /dev/shm, which lies in memory and counts as the pod's; nil: 2Gi.
	SharedMemory *resource.Quantity
	Resources    map[string]resource.Quantity // others that a device plugin offers, such as rdma/hca

	// Retries is how often a pod may fail, for each node: after Retries x MaxNodes failures the Job has failed.
	Retries int
	// FastReplace makes a new pod as soon as an old one is being deleted, also on a node that is gone. Kubernetes does not
	// allow it together with a podFailurePolicy, so every failure is tried again.
	FastReplace bool
	Grace       time.Duration // what an agent has to save a checkpoint in once it is asked to end
	EvictAfter  time.Duration // how long a pod stays on a node that does not answer
	TTL         time.Duration // when a finished Job is deleted; 0: never

	Port        int  // of agents, TCP and UDP
	MetricsPort int  // 0: none
	PodMonitor  bool // ask Prometheus's operator to read the metrics

	// KeySecret names a Secret that exists and holds the run's key as KeyFile. Empty: Key is written into a Secret of its own.
	KeySecret string
	Key       string

	// Claim names the PersistentVolumeClaim that exists; empty: one of Storage is written, of StorageClass if that is not empty.
	Claim        string
	Storage      *resource.Quantity
	StorageClass string
	Mount        string   // where the claim is mounted, and the working directory
	Volumes      []Volume // other claims

	Queue   string // Kueue's LocalQueue; the Job is suspended until that admits it
	Suspend bool
	JobSet  bool

	Topology      string            // label of nodes by which pods are kept near each other, such as topology.kubernetes.io/zone
	NodeSelector  map[string]string // labels that a node must have
	Tolerations   []Toleration
	PriorityClass string
	User          int64 // user and group in the pod, and the group of the volumes
}

// Volume is a claim that exists and where it is mounted.
type Volume struct {
	Claim    string
	Path     string
	ReadOnly bool
}

// Toleration lets pods onto nodes with a taint. An empty Value stands for any, an empty Effect for all.
type Toleration struct {
	Key, Value, Effect string
}

// KeyFile is the name under which a Secret holds the run's key.
const KeyFile = "key"

// Where a pod finds what is no part of the volume.
const (
	configDir  = "/etc/ddprun"
	configFile = "train.yaml"
	configPath = configDir + "/" + configFile
	keyDir     = "/etc/ddprun-key"
	keyPath    = keyDir + "/" + KeyFile
	tmpDir     = "/tmp"
	shmDir     = "/dev/shm"
)

// graceMargin is what Kubernetes gives a pod beyond its agent's grace before it kills it.
const graceMargin = 5 * time.Second

// Defaults returns the options that ddprun k8s starts from.
func Defaults() Options {
	storage, shm := resource.MustParse("100Gi"), resource.MustParse("2Gi")
	return Options{
		Name:         "ddprun",
		MinNodes:     1,
		MaxNodes:     1,
		MaxRestarts:  10,
		GPUResource:  "nvidia.com/gpu",
		SharedMemory: &shm,
		Retries:      10,
		Grace:        25 * time.Second,
		EvictAfter:   30 * time.Second,
		Port:         29400,
		Storage:      &storage,
		Mount:        "/workspace",
		User:         1000,
	}
}

func (o *Options) elastic() bool { return o.MinNodes != o.MaxNodes }

// alone says that there is one node and never another one: its agent opens no port and needs no key.
func (o *Options) alone() bool { return o.MaxNodes == 1 }

func (o *Options) nproc() int {
	if o.NProc > 0 {
		return o.NProc
	}
	return max(1, o.GPUs)
}

func (o *Options) startNodes() int {
	if o.StartNodes > 0 {
		return o.StartNodes
	}
	return o.MaxNodes
}

func (o *Options) claim() string {
	if o.Claim != "" {
		return o.Claim
	}
	return o.Name + "-data"
}

// volumes are those of the run: its own claim first.
func (o *Options) volumes() []Volume {
	return append([]Volume{{Claim: o.claim(), Path: o.Mount}}, o.Volumes...)
}

func (o *Options) keySecret() string {
	if o.KeySecret != "" {
		return o.KeySecret
	}
	return o.Name + "-key"
}

func (o *Options) configMap() string { return o.Name + "-config" }

// job is the Job's name: that of a JobSet's Job is longer.
func (o *Options) job() string {
	if o.JobSet {
		return o.Name + "-" + replicatedJob + "-0"
	}
	return o.Name
}

// podPrefix is what pods' host names begin with; their index follows.
func (o *Options) podPrefix() string { return o.job() + "-" }
