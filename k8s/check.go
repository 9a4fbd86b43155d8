package k8s

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Bounds of the options: above them lies a slip of the finger, or what Kubernetes refuses.
const (
	maxNodes   = 4096
	maxRetries = 1000
	maxWait    = 24 * time.Hour
	// maxConfigBytes keeps the ConfigMap below what kubectl apply can note in an annotation (256 KiB).
	maxConfigBytes = 200 << 10
)

// Check returns everything that is wrong with the options, one a line, each named by the flag of ddprun k8s that sets it.
func (o *Options) Check() error {
	c := &checker{}
	c.names(o)
	c.nodes(o)
	c.resources(o)
	c.times(o)
	c.ports(o)
	c.storage(o)
	c.placement(o)
	return errors.Join(c.errs...)
}

type checker struct{ errs []error }

func (c *checker) addf(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

// say notes what apimachinery found wrong with a flag's value.
func (c *checker) say(flag, value string, wrong []string) {
	if len(wrong) > 0 {
		c.addf("%s: %q: %s", flag, value, strings.Join(wrong, "; "))
	}
}

func (c *checker) names(o *Options) {
	// A Service's name begins with a letter, and a pod's host name has an index behind it.
	last := fmt.Sprintf("%s%d", o.podPrefix(), max(o.MaxNodes, 1)-1)
	if wrong := validation.IsDNS1035Label(o.Name); len(wrong) > 0 {
		c.say("--name", o.Name, wrong)
	} else if wrong := validation.IsDNS1035Label(last); len(wrong) > 0 {
		c.addf("--name: %q is too long by %d characters: the last pod would be called %s", o.Name, len(last)-validation.DNS1035LabelMaxLength, last)
	}
	if o.Namespace != "" {
		c.say("--namespace", o.Namespace, validation.IsDNS1123Label(o.Namespace))
	}
	if o.Image == "" {
		c.addf("--image: none given; name the image that k8s/Dockerfile builds")
	} else if !isImage(o.Image) {
		c.addf("--image: %q: want [registry/]repository[:tag][@digest], the repository in lower case, such as registry.example.com/team/ddprun:1.0", o.Image)
	}
	for _, f := range []struct{ flag, name string }{{"--image-pull-secret", o.PullSecret}, {"--key-secret", o.KeySecret}, {"--pvc", o.Claim},
		{"--storage-class", o.StorageClass}, {"--priority-class", o.PriorityClass}} {
		if f.name != "" {
			c.say(f.flag, f.name, validation.IsDNS1123Subdomain(f.name))
		}
	}
	if o.Queue != "" {
		c.say("--queue", o.Queue, validation.IsValidLabelValue(o.Queue))
	}
	if len(o.Config) > maxConfigBytes {
		c.addf("%s: has %d bytes; kubectl apply takes at most %d; name texts by patterns instead of one by one", configFile, len(o.Config), maxConfigBytes)
	}
	if o.KeySecret == "" && o.Key == "" && !o.alone() {
		c.addf("--key-secret: no key was made and no Secret is named")
	}
}

// isImage says whether a container runtime would take name for an image's: the grammar of github.com/distribution/reference, whose
// package would compile its patterns at each start of ddprun (0.7 ms).
func isImage(name string) bool {
	const (
		host      = `[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?`
		domain    = host + `(\.` + host + `)*(:[0-9]+)?`
		component = `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
		pattern   = `^(` + domain + `/)?` + component + `(/` + component + `)*(:\w[\w.-]{0,127})?(@[a-z0-9+._-]+:[0-9a-f]{32,})?$`
	)
	return regexp.MustCompile(pattern).MatchString(name)
}

func (c *checker) nodes(o *Options) {
	switch {
	case o.MinNodes < 1 || o.MaxNodes < o.MinNodes || o.MaxNodes > maxNodes:
		c.addf("--nodes: want a number from 1 to %d, or MIN:MAX with MIN not above MAX, got %d:%d", maxNodes, o.MinNodes, o.MaxNodes)
	case o.StartNodes != 0 && (o.StartNodes < o.MinNodes || o.StartNodes > o.MaxNodes):
		c.addf("--start: %d is not from %d to %d, the nodes of --nodes", o.StartNodes, o.MinNodes, o.MaxNodes)
	}
	if o.NProc < 0 {
		c.addf("--nproc: must be at least 1, got %d", o.NProc)
	}
	if o.GPUs > 0 && o.NProc > o.GPUs {
		c.addf("--nproc: %d ranks cannot share the %d GPUs of --gpus-per-node; a rank has a GPU of its own", o.NProc, o.GPUs)
	}
	if o.Retries < 0 || o.Retries > maxRetries {
		c.addf("--retries: want a number from 0 to %d, got %d", maxRetries, o.Retries)
	}
	if o.MaxRestarts < 0 {
		c.addf("--max-restarts: must be at least 0, got %d", o.MaxRestarts)
	}
}

func (c *checker) resources(o *Options) {
	if o.GPUs < 0 || o.GPUs > 1024 {
		c.addf("--gpus-per-node: want a number from 0 to 1024, got %d", o.GPUs)
	}
	if o.GPUs > 0 {
		c.device("--gpu-resource", o.GPUResource)
	}
	for _, f := range []struct {
		flag string
		q    *resource.Quantity
	}{{"--cpus-per-node", o.CPUs}, {"--memory-per-node", o.Memory}, {"--shm-size", o.SharedMemory}} {
		if f.q != nil && f.q.Sign() <= 0 {
			c.addf("%s: must be above 0, got %s", f.flag, f.q)
		}
	}
	if o.Memory != nil && o.SharedMemory != nil && o.SharedMemory.Cmp(*o.Memory) > 0 {
		c.addf("--shm-size: %s is more than the %s of --memory-per-node, of which it is a part", o.SharedMemory, o.Memory)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Resources)) {
		q := o.Resources[name]
		c.device("--resource", name)
		if q.Sign() <= 0 || q.Value()*1000 != q.MilliValue() {
			c.addf("--resource: %s: want a whole number above 0, got %s", name, &q)
		}
		if name == o.GPUResource && o.GPUs > 0 {
			c.addf("--resource: %s is what --gpus-per-node asks for; give one of the two", name)
		}
	}
}

// device wants the name of what a device plugin offers: vendor.example/thing.
func (c *checker) device(flag, name string) {
	if wrong := validation.IsQualifiedName(name); len(wrong) > 0 {
		c.say(flag, name, wrong)
	} else if domain, _, found := strings.Cut(name, "/"); !found || strings.HasSuffix(domain, "kubernetes.io") {
		c.addf("%s: %q: want the name of a device plugin's resource, such as nvidia.com/gpu", flag, name)
	} else if wrong := validation.IsQualifiedName("requests." + name); len(wrong) > 0 { // what a quota calls it
		c.say(flag, name, wrong)
	}
}

func (c *checker) times(o *Options) {
	seconds := func(flag string, d, least time.Duration) {
		if d < least || d > maxWait || d%time.Second != 0 {
			c.addf("%s: want whole seconds from %s to %s, got %s", flag, least, maxWait, d)
		}
	}
	seconds("--grace", o.Grace, 5*time.Second)
	seconds("--evict-after", o.EvictAfter, 0)
	if o.TTL < 0 || o.TTL > 365*24*time.Hour || o.TTL%time.Second != 0 {
		c.addf("--ttl: want whole seconds up to a year, 0 for ever, got %s", o.TTL)
	}
}

func (c *checker) ports(o *Options) {
	if o.Port < 1024 || o.Port > 65534 {
		c.addf("--port: want a port from 1024 to 65534, got %d", o.Port)
	}
	switch {
	case o.MetricsPort == 0 && o.PodMonitor:
		c.addf("--pod-monitor: there are no metrics to read without --metrics-port")
	case o.MetricsPort != 0 && (o.MetricsPort < 1024 || o.MetricsPort > 65535):
		c.addf("--metrics-port: want a port from 1024 to 65535, got %d", o.MetricsPort)
	case o.MetricsPort == o.Port:
		c.addf("--metrics-port: %d is the agents' own --port; choose another one", o.MetricsPort)
	}
}

func (c *checker) storage(o *Options) {
	if o.Claim == "" && (o.Storage == nil || o.Storage.Sign() <= 0) {
		c.addf("--storage: must be above 0; or name a claim that exists by --pvc")
	}
	if o.Claim != "" && o.StorageClass != "" {
		c.addf("--storage-class: the claim of --pvc has one; give one of the two")
	}
	seen := map[string]bool{}
	for i, v := range o.volumes() {
		flag := "--volume"
		if i == 0 {
			flag = "--mount"
		} else {
			c.say(flag, v.Claim, validation.IsDNS1123Subdomain(v.Claim))
		}
		if !path.IsAbs(v.Path) || path.Clean(v.Path) != v.Path || v.Path == "/" || strings.Contains(v.Path, ":") {
			c.addf("%s: %q: want an absolute path such as /workspace, without .., : or a slash at its end", flag, v.Path)
			continue
		}
		for _, taken := range []string{configDir, keyDir, tmpDir, shmDir, "/dev", "/proc", "/sys"} {
			if within(v.Path, taken) || within(taken, v.Path) {
				c.addf("%s: %s: lies over %s, which the pod needs; choose another path", flag, v.Path, taken)
				break
			}
		}
		if seen[v.Path] {
			c.addf("%s: %s: two volumes are mounted there; choose another path", flag, v.Path)
		}
		seen[v.Path] = true
	}
	if o.User < 1 || o.User > 1<<31-1 {
		c.addf("--user: want a number from 1 to %d (a pod does not run as root), got %d", 1<<31-1, o.User)
	}
	c.writes(o)
}

// writes refuses a configuration that would write where nothing can be written: the root file system is read-only.
func (c *checker) writes(o *Options) {
	for _, key := range slices.Sorted(maps.Keys(o.Writes)) {
		at := o.Writes[key]
		if at == "" {
			continue
		}
		if !path.IsAbs(at) {
			at = path.Join(o.Mount, at)
		}
		var on *Volume
		for _, v := range o.volumes() {
			if within(at, v.Path) && (on == nil || len(v.Path) > len(on.Path)) {
				on = &v
			}
		}
		switch {
		case on == nil:
			c.addf("%s: %s lies on no volume; a pod can write below %s (--mount) and on volumes of --volume", key, at, o.Mount)
		case on.ReadOnly:
			c.addf("%s: %s lies on the volume %s, which --volume mounts read-only", key, at, on.Claim)
		}
	}
}

// within says whether the clean absolute path p is dir or lies below it.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

func (c *checker) placement(o *Options) {
	if o.Topology != "" {
		c.say("--topology", o.Topology, validation.IsQualifiedName(o.Topology))
	}
	for _, key := range slices.Sorted(maps.Keys(o.NodeSelector)) {
		c.say("--node-selector", key, validation.IsQualifiedName(key))
		c.say("--node-selector", o.NodeSelector[key], validation.IsValidLabelValue(o.NodeSelector[key]))
	}
	for _, t := range o.Tolerations {
		c.say("--toleration", t.Key, validation.IsQualifiedName(t.Key))
		c.say("--toleration", t.Value, validation.IsValidLabelValue(t.Value))
		switch corev1.TaintEffect(t.Effect) {
		case "", corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
		default:
			c.addf("--toleration: %q: want the effect NoSchedule, PreferNoSchedule or NoExecute", t.Effect)
		}
	}
}
