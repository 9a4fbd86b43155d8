// Package k8s writes the manifests of a run on Kubernetes, from the API's own types.
//
// Objects turns Options into a list of Manifests: an Indexed Job with one pod a node, and around it a headless Service by
// which the pods find each other, a ConfigMap with train.yaml, a Secret with the run's key, a claim for the shared volume, a
// ServiceAccount that is granted nothing, a NetworkPolicy and a PodDisruptionBudget. Write prints them as one YAML stream for
// kubectl apply. With Options.JobSet the Job lies in a JobSet, with Options.Queue it waits for Kueue.
//
// The agent in a pod (package launch) is told its place by variables, which environ.go lists, and tells Kubernetes by its exit
// code what to do next (policy.go). What a cluster does to a pod that the manifests answer to is told in docs/kubernetes.md.
//
// The types are those of k8s.io/api, so that a field that does not exist does not compile. JobSet and PodMonitor are no part of
// that module; extensions.go has of them what is written here.
package k8s
