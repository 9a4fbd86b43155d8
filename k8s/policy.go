package k8s

import (
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// final are the exit codes of ddprun after which no pod shall run again: what it says is wrong stays wrong (package launch's
// ExitFailed, ExitConfig and ExitNoProgress; a test of cmd/ddprun holds them equal). 0 completes an index. All others count
// towards the Job's backoffLimit and the pod is made again: 75, stopped on request with a checkpoint; 128+n, killed by a signal;
// 2, what a crashing Go program returns.
var final = []int32{1, 78, 93}

// FinalExitCodes returns the exit codes that fail the Job at once.
func FinalExitCodes() []int32 { return append([]int32(nil), final...) }

// failurePolicy tells the Job controller what a pod's end means. A pod that was taken away (drained, preempted, evicted) counts
// as nothing, whatever its agent returned, so that rule comes first.
func failurePolicy() *batchv1.PodFailurePolicy {
	container := containerName
	return &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		{
			Action:          batchv1.PodFailurePolicyActionIgnore,
			OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
		},
		{
			Action: batchv1.PodFailurePolicyActionFailJob,
			OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
				ContainerName: &container, Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: final},
		},
	}}
}
