package k8s

import (
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const containerName = "ddprun"

// podTemplate is the pod of one node.
func podTemplate(o *Options) corev1.PodTemplateSpec {
	grace := seconds(o.Grace + graceMargin)
	spec := corev1.PodSpec{
		RestartPolicy:                 corev1.RestartPolicyNever, // the Job makes new pods; a podFailurePolicy demands it
		TerminationGracePeriodSeconds: &grace,
		ServiceAccountName:            o.Name,
		AutomountServiceAccountToken:  ptr(false),
		EnableServiceLinks:            ptr(false), // else every Service of the namespace is in the environment
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot:        ptr(true),
			RunAsUser:           &o.User,
			RunAsGroup:          &o.User,
			FSGroup:             &o.User, // reads the key, writes the volume
			FSGroupChangePolicy: ptr(corev1.FSGroupChangeOnRootMismatch),
			SeccompProfile:      &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		NodeSelector:              o.NodeSelector,
		Affinity:                  affinity(o),
		TopologySpreadConstraints: spread(o),
		Tolerations:               tolerations(o),
		PriorityClassName:         o.PriorityClass,
		Containers:                []corev1.Container{container(o)},
		Volumes:                   podVolumes(o),
	}
	if !o.alone() {
		spec.Subdomain = o.Name // the Service by which a pod's host name is looked up
	}
	if o.PullSecret != "" {
		spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: o.PullSecret}}
	}
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels(o)}, Spec: spec}
}

func container(o *Options) corev1.Container {
	c := corev1.Container{
		Name:         containerName,
		Image:        o.Image,
		Command:      command(o),
		WorkingDir:   o.Mount,
		Env:          environment(o),
		Resources:    resources(o),
		VolumeMounts: mounts(o),
		// What is wrong is the last thing that ddprun says, so kubectl describe shows it.
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr(false),
			Privileged:               ptr(false),
			ReadOnlyRootFilesystem:   ptr(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		// An agent answers from when the text is prepared, which may take hours. Until then nothing but its own end ends it.
		StartupProbe:   probe(5*time.Second, int32(7*24*time.Hour/(5*time.Second))),
		LivenessProbe:  probe(30*time.Second, 6),
		ReadinessProbe: probe(10*time.Second, 3),
	}
	if !o.alone() {
		c.Ports = append(c.Ports,
			corev1.ContainerPort{Name: "control", ContainerPort: int32(o.Port), Protocol: corev1.ProtocolTCP},
			corev1.ContainerPort{Name: "gossip", ContainerPort: int32(o.Port), Protocol: corev1.ProtocolUDP})
	}
	if o.MetricsPort > 0 {
		c.Ports = append(c.Ports, corev1.ContainerPort{Name: metricsPort, ContainerPort: int32(o.MetricsPort), Protocol: corev1.ProtocolTCP})
	}
	return c
}

// probe asks the pod's own agent; ranks may be busy for as long as they like, an agent answers.
func probe(period time.Duration, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"ddprun", "status"}}},
		PeriodSeconds:    int32(seconds(period)),
		TimeoutSeconds:   int32(seconds(min(period, 10*time.Second))),
		FailureThreshold: failures,
	}
}

// resources asks for whole GPUs, for memory as a limit too (a pod that takes more is killed, not its neighbours), and for CPUs
// without a limit, since throttling would hold up all ranks.
func resources(o *Options) corev1.ResourceRequirements {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	both := func(name corev1.ResourceName, q resource.Quantity) { requests[name], limits[name] = q, q }
	if o.CPUs != nil {
		requests[corev1.ResourceCPU] = *o.CPUs
	}
	if o.Memory != nil {
		both(corev1.ResourceMemory, *o.Memory)
	}
	if o.GPUs > 0 {
		both(corev1.ResourceName(o.GPUResource), *resource.NewQuantity(int64(o.GPUs), resource.DecimalSI))
	}
	for name, q := range o.Resources {
		both(corev1.ResourceName(name), q)
	}
	if len(requests) == 0 {
		return corev1.ResourceRequirements{}
	}
	return corev1.ResourceRequirements{Requests: requests, Limits: limits}
}

// affinity keeps pods near each other where a topology is named.
func affinity(o *Options) *corev1.Affinity {
	if o.Topology == "" || o.alone() {
		return nil
	}
	return &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
		PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
			Weight:          100,
			PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: o.Topology, LabelSelector: selector(o)},
		}},
	}}
}

// spread puts pods on different machines where there are enough, so that losing one loses one.
func spread(o *Options) []corev1.TopologySpreadConstraint {
	if o.alone() {
		return nil
	}
	return []corev1.TopologySpreadConstraint{{
		MaxSkew:           1,
		TopologyKey:       corev1.LabelHostname,
		WhenUnsatisfiable: corev1.ScheduleAnyway,
		LabelSelector:     selector(o),
	}}
}

// tolerations lets pods onto machines that are kept for GPUs, and says how long they wait for one that does not answer.
func tolerations(o *Options) []corev1.Toleration {
	var list []corev1.Toleration
	wait := seconds(o.EvictAfter)
	for _, taint := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		list = append(list, corev1.Toleration{Key: taint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &wait})
	}
	if o.GPUs > 0 {
		list = append(list, corev1.Toleration{Key: o.GPUResource, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule})
	}
	for _, t := range o.Tolerations {
		operator := corev1.TolerationOpEqual
		if t.Value == "" {
			operator = corev1.TolerationOpExists
		}
		list = append(list, corev1.Toleration{Key: t.Key, Operator: operator, Value: t.Value, Effect: corev1.TaintEffect(t.Effect)})
	}
	return list
}

func podVolumes(o *Options) []corev1.Volume {
	volumes := []corev1.Volume{
		{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: o.configMap()}}}},
		{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "shm", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
			Medium: corev1.StorageMediumMemory, SizeLimit: o.SharedMemory}}},
	}
	if !o.alone() {
		volumes = append(volumes, corev1.Volume{Name: "key", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName:  o.keySecret(),
			DefaultMode: ptr(int32(0o440)), // root's; the pod's group reads it
			Items:       []corev1.KeyToPath{{Key: KeyFile, Path: KeyFile}},
		}}})
	}
	for i, v := range o.volumes() {
		volumes = append(volumes, corev1.Volume{Name: volumeName(i), VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: v.Claim, ReadOnly: v.ReadOnly}}})
	}
	return volumes
}

func mounts(o *Options) []corev1.VolumeMount {
	list := []corev1.VolumeMount{
		{Name: "config", MountPath: configDir, ReadOnly: true},
		{Name: "tmp", MountPath: tmpDir},
		{Name: "shm", MountPath: shmDir},
	}
	if !o.alone() {
		list = append(list, corev1.VolumeMount{Name: "key", MountPath: keyDir, ReadOnly: true})
	}
	for i, v := range o.volumes() {
		list = append(list, corev1.VolumeMount{Name: volumeName(i), MountPath: v.Path, ReadOnly: v.ReadOnly})
	}
	return list
}

func volumeName(i int) string {
	if i == 0 {
		return "data"
	}
	return fmt.Sprintf("data-%d", i)
}

// labels are on every object and every pod.
func labels(o *Options) map[string]string {
	l := maps.Clone(selector(o).MatchLabels)
	l["app.kubernetes.io/component"] = "training"
	return l
}

// selector finds the pods of this run.
func selector(o *Options) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/name": "ddprun", "app.kubernetes.io/instance": o.Name}}
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

func ptr[T any](v T) *T { return &v }
