package k8s

import (
	"fmt"
	"math/rand/v2"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// randomOptions draws options that Check takes, from the whole space of what the flags can say.
func randomOptions(r *rand.Rand, name string) Options {
	o := Defaults()
	flip := func() bool { return r.IntN(2) == 0 }
	one := func(of ...string) string { return of[r.IntN(len(of))] }
	quantity := func(of ...string) *resource.Quantity { q := resource.MustParse(one(of...)); return &q }
	o.Name, o.Image = name, one("ddprun:1", "registry.example.com/team/ddprun:1.0", "localhost:5000/ddprun@sha256:"+fmt.Sprintf("%064x", 7))
	o.Namespace, o.PullSecret = one("", "default"), one("", "registry")
	o.Config = []byte(one("model: m\ndata: d\noutput_dir: runs/first\n", "# text\nmodel: 'm'\n\n\ndata: [a, b]  \noutput_dir: \"runs/\\u00e9\"\n", "a: \"\t\"\r\n"))
	o.Writes = map[string]string{"output_dir": one("runs/first", o.Mount+"/runs")}
	o.Args = [][]string{nil, {"--set", "seed=1"}, {"--set", "data=$(HOME)/$x"}}[r.IntN(3)]
	o.MinNodes = 1 + r.IntN(4)
	o.MaxNodes = o.MinNodes + r.IntN(3)*r.IntN(2)
	if flip() {
		o.StartNodes = o.MinNodes + r.IntN(o.MaxNodes-o.MinNodes+1)
	}
	if o.GPUs = r.IntN(3) * 4; o.GPUs > 0 {
		o.GPUResource, o.NProc = one("nvidia.com/gpu", "amd.com/gpu"), r.IntN(o.GPUs+1)
	} else {
		o.NProc = r.IntN(4)
	}
	o.MaxRestarts, o.Retries = r.IntN(5), r.IntN(20)
	if flip() {
		o.CPUs, o.Memory = quantity("16", "1500m"), quantity("64Gi", "3G")
	}
	o.SharedMemory = quantity("1Gi", "64Mi")
	if flip() {
		o.Resources = map[string]resource.Quantity{"rdma/hca": resource.MustParse("1"), "vpc.amazonaws.com/efa": resource.MustParse(one("4", "32"))}
	}
	o.FastReplace = flip()
	o.Grace, o.EvictAfter, o.TTL = time.Duration(5+r.IntN(600))*time.Second, time.Duration(r.IntN(400))*time.Second, time.Duration(r.IntN(2)*r.IntN(1e6))*time.Second
	o.Port = 1024 + r.IntN(60000)
	if flip() {
		o.MetricsPort = (o.Port+100)%50000 + 2000
		o.PodMonitor = flip()
	}
	if flip() {
		o.KeySecret = "run-key"
	} else {
		o.Key = fmt.Sprintf("%064x", r.Uint64())
	}
	if flip() {
		o.Claim = "corpora"
	} else {
		o.StorageClass, o.Storage = one("", "nfs"), quantity("1Ti", "500Gi")
	}
	if flip() {
		o.Volumes = []Volume{{"models", "/models", true}, {"scratch", "/scratch/a", false}}[:1+r.IntN(2)]
	}
	o.Queue, o.Suspend, o.JobSet = one("", "team"), flip(), r.IntN(3) == 0
	o.Topology = one("", "topology.kubernetes.io/zone")
	if flip() {
		o.NodeSelector = map[string]string{"node.kubernetes.io/instance-type": "p5", "empty": ""}
		o.Tolerations = []Toleration{{"spot", "", ""}, {"team.example/owner", "ml", "NoSchedule"}}
	}
	o.PriorityClass, o.User = "", 1+r.Int64N(1<<31-1)
	return o
}
