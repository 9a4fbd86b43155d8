package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/k8s"
	"github.com/ddprun/ddprun/launch"
)

const k8sHelp = `Write the manifests of a run on Kubernetes to standard output, for kubectl apply.

They are an Indexed Job with one pod a node and what belongs to it: a headless Service, train.yaml in a ConfigMap, the run's key in a
Secret, a claim for the shared volume, a ServiceAccount without rights, a NetworkPolicy, a PodDisruptionBudget. train.yaml is checked as
ddprun checks it, but for what only a pod can see: paths in it are those in the pod, relative ones below --mount.
docs/kubernetes.md tells what each is for, and what a cluster does to a run.`

const k8sExamples = `  ddprun k8s train.yaml --image registry.example.com/ddprun:1 --nodes 4 --gpus-per-node 8 | kubectl apply -f -
  ddprun k8s train.yaml --image ... --nodes 2:8 --pvc corpora            elastic: goes on with 2 to 8 nodes
  kubectl patch job ddprun -p '{"spec":{"parallelism":3,"completions":3}}'   resizes a running one
  ddprun k8s train.yaml --image ... --key-secret ddprun-key > run.yaml   without a key in it, to be committed`

// k8sOptions are the flags of ddprun k8s whose values are still text.
type k8sOptions struct {
	k8s.Options
	nodes, replace             string
	cpus, memory, shm, storage string
	resources, nodeSelector    []string
	tolerations, volumes, sets []string
}

func newK8s(stdout io.Writer) *cobra.Command {
	o := &k8sOptions{Options: k8s.Defaults()}
	command := &cobra.Command{
		Use:     "k8s train.yaml --image IMAGE [flags]",
		Short:   "Write the manifests of a run on Kubernetes",
		Long:    k8sHelp,
		Example: k8sExamples,
		Args:    oneFile,
		RunE:    func(_ *cobra.Command, args []string) error { return o.write(stdout, args[0], os.Environ()) },
	}
	command.Flags().SortFlags = false
	o.addFlags(command.Flags())
	return command
}

func (o *k8sOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.Image, "image", "", "`image` of ddprun (k8s/Dockerfile builds one)")
	flags.StringVar(&o.PullSecret, "image-pull-secret", "", "`Secret` that unlocks the image's registry")
	flags.StringVar(&o.Name, "name", o.Name, "`name` of the Job, and what the other objects' names begin with")
	flags.StringVar(&o.Namespace, "namespace", "", "`namespace` to write into the manifests (default: kubectl's)")
	flags.StringArrayVar(&o.sets, "set", nil, "set a key over the file, as `key=value`; repeatable")

	flags.StringVar(&o.nodes, "nodes", "1", "pods: `N`, or MIN:MAX for an elastic run")
	flags.IntVar(&o.StartNodes, "start", 0, "pods of an elastic run to begin with (default: MAX)")
	flags.IntVar(&o.NProc, "nproc", 0, "ranks a pod (also --nproc-per-node; default: one a GPU, or 1)")
	flags.IntVar(&o.GPUs, "gpus-per-node", 0, "GPUs a pod")
	flags.StringVar(&o.GPUResource, "gpu-resource", o.GPUResource, "`name` under which the cluster offers GPUs")
	flags.StringVar(&o.cpus, "cpus-per-node", "", "CPUs that a pod asks for, a `quantity` such as 16 or 500m")
	flags.StringVar(&o.memory, "memory-per-node", "", "memory of a pod, request and limit, a `quantity` such as 64Gi")
	flags.StringVar(&o.shm, "shm-size", o.SharedMemory.String(), "bound of /dev/shm, a `quantity`; it is part of the pod's memory")
	flags.StringArrayVar(&o.resources, "resource", nil, "another resource of a device plugin, as `name=number`, such as rdma/hca=1; repeatable")

	flags.StringVar(&o.Claim, "pvc", "", "`claim` that exists, for texts, models and output_dir; all pods must be able to write to it (default: a new one)")
	flags.StringVar(&o.storage, "storage", o.Storage.String(), "size of the new claim, a `quantity`")
	flags.StringVar(&o.StorageClass, "storage-class", "", "storage `class` of the new claim, one that offers ReadWriteMany (default: the cluster's)")
	flags.StringVar(&o.Mount, "mount", o.Mount, "`path` of the claim in a pod, and the working directory")
	flags.StringArrayVar(&o.volumes, "volume", nil, "another claim that exists, as `claim:path` or claim:path:ro; repeatable")
	flags.StringVar(&o.KeySecret, "key-secret", "", "`Secret` that exists, with the run's key as its entry \""+k8s.KeyFile+"\" (default: a new one, with a random key)")

	flags.IntVar(&o.Retries, "retries", o.Retries, "times that a pod may fail, for each node, until the Job has failed")
	flags.IntVar(&o.MaxRestarts, "max-restarts", o.MaxRestarts, "times that ddprun starts the ranks again in pods that stay")
	flags.StringVar(&o.replace, "replace", "safe", "when a pod is made anew: safe, once the old one is known to have ended; fast, at once,\nwithout telling failures apart by exit code")
	flags.DurationVar(&o.Grace, "grace", o.Grace, "time to save a checkpoint in when a pod is asked to end")
	flags.DurationVar(&o.EvictAfter, "evict-after", o.EvictAfter, "time until a pod is given up whose node does not answer")
	flags.DurationVar(&o.TTL, "ttl", 0, "time after which a finished Job is deleted (default: never)")
	flags.IntVar(&o.Port, "port", o.Port, "`port` of the agents, TCP and UDP")
	flags.IntVar(&o.MetricsPort, "metrics-port", 0, "`port` of the metrics (default: none)")
	flags.BoolVar(&o.PodMonitor, "pod-monitor", false, "write a PodMonitor too, for a cluster that has Prometheus's operator")

	flags.StringVar(&o.Queue, "queue", "", "Kueue's `LocalQueue`; the Job waits, suspended, until that admits it")
	flags.BoolVar(&o.Suspend, "suspend", false, "make the Job suspended")
	flags.BoolVar(&o.JobSet, "jobset", false, "write a JobSet in place of a Job")
	flags.StringVar(&o.Topology, "topology", "", "node `label` by which pods are kept near each other, such as topology.kubernetes.io/zone")
	flags.StringArrayVar(&o.nodeSelector, "node-selector", nil, "label that a node must have, as `key=value`; repeatable")
	flags.StringArrayVar(&o.tolerations, "toleration", nil, "taint that pods tolerate, as `key[=value][:effect]`; repeatable")
	flags.StringVar(&o.PriorityClass, "priority-class", "", "priority `class` of the pods")
	flags.Int64Var(&o.User, "user", o.User, "user and group `id` of the pods, and group of the volumes")
}

// write checks everything and prints the manifests; it prints none if anything is wrong.
func (o *k8sOptions) write(w io.Writer, path string, environ []string) error {
	if err := o.parse(); err != nil {
		return err
	}
	for _, variable := range environ {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, config.EnvPrefix) {
			return fmt.Errorf("%s is set here, where no pod sees it; give --set %s=... instead", name, strings.ToLower(strings.TrimPrefix(name, config.EnvPrefix)))
		}
	}
	if err := o.addConfig(path); err != nil {
		return err
	}
	if o.KeySecret == "" {
		key, err := k8s.NewKey(rand.Reader)
		if err != nil {
			return &exitError{launch.ExitFailed, err}
		}
		o.Key = key
	}
	manifests, err := k8s.Objects(o.Options)
	if err != nil {
		return err
	}
	if err := k8s.Write(w, manifests); err != nil {
		return &exitError{launch.ExitFailed, err}
	}
	return nil
}

// addConfig reads train.yaml and holds it against the flags.
func (o *k8sOptions) addConfig(path string) error {
	loaded, err := config.Load(path, o.sets, nil)
	if err != nil {
		return err
	}
	c := loaded.Config
	nproc := o.NProc
	if nproc == 0 {
		nproc = max(1, o.GPUs)
	}
	if nproc > launch.MaxWorkers {
		return fmt.Errorf("--nproc: must be at most %d, got %d", launch.MaxWorkers, nproc)
	}
	ranks := o.MinNodes * nproc // beyond these, ranks of an elastic run stand by
	if _, err := c.Lanes(ranks); err != nil {
		return fmt.Errorf("--nodes %s with %d ranks each: %w", o.nodes, nproc, err)
	}
	switch {
	case c.Device == "cpu" && o.GPUs > 0:
		return fmt.Errorf("%s: device: cpu, but --gpus-per-node asks for %d; leave one of the two out", loaded.Sources["device"], o.GPUs)
	case c.Device == "cuda" && o.GPUs == 0:
		return fmt.Errorf("%s: device: cuda, but no GPU is asked for; give --gpus-per-node", loaded.Sources["device"])
	}
	if o.Config, err = os.ReadFile(path); err != nil {
		return err
	}
	o.Writes = map[string]string{"output_dir": c.OutputDir}
	if _, found := loaded.Sources["shards_dir"]; found {
		o.Writes["shards_dir"] = c.ShardsDir
	}
	o.Args = nil
	for _, set := range o.sets {
		o.Args = append(o.Args, "--set", set)
	}
	return nil
}

// parse turns the flags that are text into options.
func (o *k8sOptions) parse() error {
	if err := o.parseNodes(); err != nil {
		return err
	}
	switch o.replace {
	case "safe", "fast":
		o.FastReplace = o.replace == "fast"
	default:
		return fmt.Errorf("--replace: want safe or fast, got %q", o.replace)
	}
	for _, f := range []struct {
		flag, text string
		to         **resource.Quantity
	}{{"--cpus-per-node", o.cpus, &o.CPUs}, {"--memory-per-node", o.memory, &o.Memory}, {"--shm-size", o.shm, &o.SharedMemory}, {"--storage", o.storage, &o.Storage}} {
		if f.text == "" {
			*f.to = nil
			continue
		}
		q, err := parseQuantity(f.flag, f.text)
		if err != nil {
			return err
		}
		*f.to = &q
	}
	o.Resources = map[string]resource.Quantity{}
	for _, text := range o.resources {
		name, number, found := strings.Cut(text, "=")
		if _, twice := o.Resources[name]; !found || twice {
			return fmt.Errorf("--resource: want name=number, once for a name, such as rdma/hca=1, got %q", text)
		}
		q, err := parseQuantity("--resource "+name, number)
		if err != nil {
			return err
		}
		o.Resources[name] = q
	}
	return o.parseLists()
}

func (o *k8sOptions) parseNodes() error {
	low, high, elastic := strings.Cut(o.nodes, ":")
	if !elastic {
		high = low
	}
	var err1, err2 error
	o.MinNodes, err1 = strconv.Atoi(low)
	o.MaxNodes, err2 = strconv.Atoi(high)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("--nodes: want a number, or MIN:MAX for an elastic run, got %q", o.nodes)
	}
	return nil
}

func (o *k8sOptions) parseLists() error {
	o.NodeSelector = nil
	for _, text := range o.nodeSelector {
		key, value, found := strings.Cut(text, "=")
		if !found {
			return fmt.Errorf("--node-selector: want key=value, got %q", text)
		}
		if o.NodeSelector == nil {
			o.NodeSelector = map[string]string{}
		}
		o.NodeSelector[key] = value
	}
	o.Tolerations = nil
	for _, text := range o.tolerations {
		var t k8s.Toleration
		text, t.Effect, _ = strings.Cut(text, ":")
		t.Key, t.Value, _ = strings.Cut(text, "=")
		o.Tolerations = append(o.Tolerations, t)
	}
	o.Volumes = nil
	for _, text := range o.volumes {
		parts := strings.Split(text, ":")
		if len(parts) < 2 || len(parts) > 3 || len(parts) == 3 && parts[2] != "ro" {
			return fmt.Errorf("--volume: want claim:path or claim:path:ro, got %q", text)
		}
		o.Volumes = append(o.Volumes, k8s.Volume{Claim: parts[0], Path: parts[1], ReadOnly: len(parts) == 3})
	}
	return nil
}

// parseQuantity reads a quantity as Kubernetes writes it.
func parseQuantity(flag, text string) (resource.Quantity, error) {
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return q, fmt.Errorf("%s: want a quantity such as 16, 500m or 64Gi, got %q", flag, text)
	}
	return q, nil
}
