package k8s

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// joinHosts bounds the pods that are named one by one in DDPRUN_JOIN; any one that answers tells of the others.
const joinHosts = 8

// environment tells the agent its place. What differs from pod to pod comes from the pod itself.
//
//	DDPRUN_NNODES     4, or 2:8
//	DDPRUN_NODE_RANK  the pod's completion index
//	DDPRUN_RUN_ID     the Job's UID: a Job of the same name that was deleted is another run
//	DDPRUN_JOIN       the Service, whose name stands for all pods, and the first pods
//	DDPRUN_PORT       of the agents
//	DDPRUN_KEY_FILE   in the Secret
//	POD_IP            for --advertise
//	DDPRUN_REMEDY     what the others tell people when the pod's node is lost, with its name
//	HOME              what a library insists on writing goes into the pod's /tmp
func environment(o *Options) []corev1.EnvVar {
	env := []corev1.EnvVar{
		{Name: "HOME", Value: tmpDir},
		{Name: "DDPRUN_NNODES", Value: o.nnodes()},
		{Name: "DDPRUN_RUN_ID", ValueFrom: fromField("metadata.labels['batch.kubernetes.io/controller-uid']")},
		{Name: "DDPRUN_NODE_RANK", ValueFrom: fromField("metadata.annotations['batch.kubernetes.io/job-completion-index']")},
	}
	if !o.alone() {
		env = append(env,
			corev1.EnvVar{Name: "DDPRUN_JOIN", Value: o.join()},
			corev1.EnvVar{Name: "DDPRUN_PORT", Value: fmt.Sprint(o.Port)},
			corev1.EnvVar{Name: podIP, ValueFrom: fromField("status.podIP")},
			corev1.EnvVar{Name: "DDPRUN_KEY_FILE", Value: keyPath})
	}
	if !o.alone() && !o.FastReplace { // then Kubernetes waits for people
		env = append(env,
			corev1.EnvVar{Name: nodeName, ValueFrom: fromField("spec.nodeName")},
			corev1.EnvVar{Name: "DDPRUN_REMEDY", Value: "kubectl taint node $(" + nodeName + ") " + corev1.TaintNodeOutOfService + "=nodeshutdown:NoExecute"})
	}
	return env
}

func (o *Options) nnodes() string {
	if o.elastic() {
		return fmt.Sprintf("%d:%d", o.MinNodes, o.MaxNodes)
	}
	return fmt.Sprint(o.MaxNodes)
}

// join lists where to ask for the others. The Service stands for whoever is there; a pod's own name outlives its address.
func (o *Options) join() string {
	hosts := []string{o.Name}
	for i := range min(o.MaxNodes, joinHosts) {
		hosts = append(hosts, fmt.Sprintf("%s%d.%s", o.podPrefix(), i, o.Name))
	}
	return strings.Join(hosts, ",")
}

func fromField(path string) *corev1.EnvVarSource {
	// The API server would fill in the version; written here, a manifest reads the same as what the server holds.
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}
}

// podIP and nodeName are the variables with the pod's address, and where it runs.
const (
	podIP    = "POD_IP"
	nodeName = "NODE_NAME"
)

// command is the container's: ddprun as on any machine. Kubernetes puts variables into arguments, so a dollar of ours is doubled.
func command(o *Options) []string {
	args := []string{"ddprun", "--nproc", fmt.Sprint(o.nproc()), "--max-restarts", fmt.Sprint(o.MaxRestarts), "--log-format", "json"}
	if !o.alone() {
		args = append(args, "--advertise", "$("+podIP+")", "--leavers-return")
	}
	if o.Grace != Defaults().Grace { // which is ddprun's own
		args = append(args, "--grace", o.Grace.String())
	}
	if o.MetricsPort > 0 {
		args = append(args, "--metrics-addr", fmt.Sprintf(":%d", o.MetricsPort))
	}
	for _, arg := range o.Args {
		args = append(args, strings.ReplaceAll(arg, "$", "$$"))
	}
	return append(args, configPath)
}
