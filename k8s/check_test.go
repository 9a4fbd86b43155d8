package k8s

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// TestCheck: each bad value is an error that names its flag and says what would do.
func TestCheck(t *testing.T) {
	q := func(text string) *resource.Quantity { v := resource.MustParse(text); return &v }
	for _, c := range []struct {
		want  string
		spoil func(o *Options)
	}{
		{`--name: "1run": a DNS-1035 label must`, func(o *Options) { o.Name = "1run" }},
		{`--name: "` + strings.Repeat("a", 62) + `" is too long by 1 characters: the last pod would be called ` + strings.Repeat("a", 62) + "-3", func(o *Options) { o.Name = strings.Repeat("a", 62) }},
		{`--namespace: "a.b"`, func(o *Options) { o.Namespace = "a.b" }},
		{"--image: none given; name the image that k8s/Dockerfile builds", func(o *Options) { o.Image = "" }},
		{`--image: "team/X": want [registry/]repository[:tag][@digest], the repository in lower case`, func(o *Options) { o.Image = "team/X" }},
		{`--image-pull-secret: "a b"`, func(o *Options) { o.PullSecret = "a b" }},
		{`--key-secret: "K"`, func(o *Options) { o.KeySecret = "K" }},
		{`--pvc: "_"`, func(o *Options) { o.Claim = "_" }},
		{`--storage-class: "_"`, func(o *Options) { o.StorageClass = "_" }},
		{`--priority-class: "_"`, func(o *Options) { o.PriorityClass = "_" }},
		{`--queue: "a/b"`, func(o *Options) { o.Queue = "a/b" }},
		{"train.yaml: has 300000 bytes; kubectl apply takes at most 204800", func(o *Options) { o.Config = make([]byte, 300000) }},
		{"--key-secret: no key was made and no Secret is named", func(o *Options) { o.Key = "" }},
		{"--nodes: want a number from 1 to 4096, or MIN:MAX with MIN not above MAX, got 0:4", func(o *Options) { o.MinNodes = 0 }},
		{"--nodes: want a number from 1 to 4096, or MIN:MAX with MIN not above MAX, got 5:4", func(o *Options) { o.MinNodes = 5 }},
		{"--start: 5 is not from 2 to 4, the nodes of --nodes", func(o *Options) { o.StartNodes = 5 }},
		{"--nproc: must be at least 1, got -1", func(o *Options) { o.NProc = -1 }},
		{"--nproc: 9 ranks cannot share the 8 GPUs of --gpus-per-node", func(o *Options) { o.NProc, o.GPUs = 9, 8 }},
		{"--gpus-per-node: want a number from 0 to 1024, got -1", func(o *Options) { o.GPUs = -1 }},
		{`--gpu-resource: "gpu": want the name of a device plugin's resource`, func(o *Options) { o.GPUs, o.GPUResource = 1, "gpu" }},
		{`--gpu-resource: "kubernetes.io/gpu": want the name of a device plugin's resource`, func(o *Options) { o.GPUs, o.GPUResource = 1, "kubernetes.io/gpu" }},
		{"--retries: want a number from 0 to 1000, got -1", func(o *Options) { o.Retries = -1 }},
		{"--max-restarts: must be at least 0, got -1", func(o *Options) { o.MaxRestarts = -1 }},
		{"--cpus-per-node: must be above 0, got 0", func(o *Options) { o.CPUs = q("0") }},
		{"--memory-per-node: must be above 0, got -1Gi", func(o *Options) { o.Memory, o.SharedMemory = q("-1Gi"), nil }},
		{"--shm-size: 8Gi is more than the 4Gi of --memory-per-node, of which it is a part", func(o *Options) { o.Memory, o.SharedMemory = q("4Gi"), q("8Gi") }},
		{"--resource: rdma/hca: want a whole number above 0, got 500m", func(o *Options) { o.Resources = map[string]resource.Quantity{"rdma/hca": *q("500m")} }},
		{"--resource: nvidia.com/gpu is what --gpus-per-node asks for", func(o *Options) { o.GPUs, o.Resources = 1, map[string]resource.Quantity{"nvidia.com/gpu": *q("1")} }},
		{"--grace: want whole seconds from 5s to 24h0m0s, got 1s", func(o *Options) { o.Grace = time.Second }},
		{"--grace: want whole seconds from 5s to 24h0m0s, got 9.5s", func(o *Options) { o.Grace = 9500 * time.Millisecond }},
		{"--evict-after: want whole seconds from 0s to 24h0m0s, got -1s", func(o *Options) { o.EvictAfter = -time.Second }},
		{"--ttl: want whole seconds up to a year, 0 for ever, got 1ms", func(o *Options) { o.TTL = time.Millisecond }},
		{"--port: want a port from 1024 to 65534, got 65535", func(o *Options) { o.Port = 65535 }},
		{"--metrics-port: want a port from 1024 to 65535, got 80", func(o *Options) { o.MetricsPort = 80 }},
		{"--metrics-port: 29400 is the agents' own --port; choose another one", func(o *Options) { o.MetricsPort = 29400 }},
		{"--pod-monitor: there are no metrics to read without --metrics-port", func(o *Options) { o.PodMonitor = true }},
		{"--storage: must be above 0; or name a claim that exists by --pvc", func(o *Options) { o.Storage = nil }},
		{"--storage-class: the claim of --pvc has one", func(o *Options) { o.Claim, o.StorageClass = "a", "b" }},
		{`--mount: "workspace": want an absolute path`, func(o *Options) { o.Mount = "workspace" }},
		{`--mount: "/": want an absolute path`, func(o *Options) { o.Mount = "/" }},
		{"--mount: /etc: lies over /etc/ddprun, which the pod needs", func(o *Options) { o.Mount = "/etc" }},
		{"--volume: /tmp/x: lies over /tmp, which the pod needs", func(o *Options) { o.Volumes = []Volume{{"a", "/tmp/x", false}} }},
		{"--volume: /workspace: two volumes are mounted there", func(o *Options) { o.Volumes = []Volume{{"a", "/workspace", false}} }},
		{`--volume: "A"`, func(o *Options) { o.Volumes = []Volume{{"A", "/a", false}} }},
		{"--user: want a number from 1 to 2147483647 (a pod does not run as root), got 0", func(o *Options) { o.User = 0 }},
		{"output_dir: /runs/a lies on no volume; a pod can write below /workspace (--mount)", func(o *Options) { o.Writes = map[string]string{"output_dir": "/runs/a"} }},
		{"output_dir: /runs lies on no volume", func(o *Options) { o.Writes = map[string]string{"output_dir": "../runs"} }},
		{"shards_dir: /shards/a lies on the volume corpora, which --volume mounts read-only", func(o *Options) {
			o.Volumes, o.Writes = []Volume{{"corpora", "/shards", true}}, map[string]string{"shards_dir": "/shards/a"}
		}},
		{`--topology: "a b"`, func(o *Options) { o.Topology = "a b" }},
		{`--node-selector: "a b"`, func(o *Options) { o.NodeSelector = map[string]string{"a b": ""} }},
		{`--toleration: ""`, func(o *Options) { o.Tolerations = []Toleration{{}} }},
		{`--toleration: "Never": want the effect NoSchedule, PreferNoSchedule or NoExecute`, func(o *Options) { o.Tolerations = []Toleration{{"a", "", "Never"}} }},
	} {
		o := Defaults()
		o.Image, o.Key, o.MinNodes, o.MaxNodes = "ddprun:1", "key", 2, 4
		if err := o.Check(); err != nil {
			t.Fatal(err)
		}
		c.spoil(&o)
		err := o.Check()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		} else if strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%s: more is told than that: %v", c.want, err)
		}
		if _, err := Objects(o); err == nil {
			t.Errorf("%s: manifests were made", c.want)
		}
	}
}

// TestWrites: what may be written to lies on the volume that is mounted nearest.
func TestWrites(t *testing.T) {
	o := Defaults()
	o.Image = "ddprun:1"
	o.Volumes = []Volume{{"corpora", "/workspace/corpora", true}, {"cache", "/workspace/corpora/cache", false}}
	for at, good := range map[string]bool{"runs": true, "/workspace": true, "corpora/x": false, "corpora/cache/x": true, "/workspaces/a": false} {
		o.Writes = map[string]string{"output_dir": at}
		if err := o.Check(); (err == nil) != good {
			t.Errorf("%s: %v", at, err)
		}
	}
}

func TestIsImage(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("0a", 32)
	for name, good := range map[string]bool{"ddprun": true, "ddprun:1.0": true, "team/dd-prun__x": true, "localhost:5000/a/b": true, "Registry.example.com/a:V1": true, "a" + digest: true,
		"r.example.com/a:1" + digest: true, "A": false, "team/A": false, "a b": false, "a:": false, "/a": false, "a/": false, "a@sha256:0a": false, "https://r.example.com/a": false, "a..b": false, "": false} {
		if isImage(name) != good {
			t.Errorf("%q: %t", name, !good)
		}
	}
}
