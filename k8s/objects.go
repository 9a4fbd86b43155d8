package k8s

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const metricsPort = "metrics"

// Manifest is an object and a line that says what it is for.
type Manifest struct {
	Comment string
	Object  runtime.Object
}

// Objects returns the manifests of a run, in an order in which nothing waits for what comes later. It checks the options.
func Objects(o Options) ([]Manifest, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	var list []Manifest
	add := func(comment string, object runtime.Object) { list = append(list, Manifest{comment, object}) }
	add("The pods' account: nothing is granted to it.", serviceAccount(&o))
	add("train.yaml. It stays as it is: pods of one run refuse each other over different configurations.", configMap(&o))
	if !o.alone() && o.KeySecret == "" {
		add("The run's key, by which its pods know each other. Keep it out of version control; --key-secret names one that exists.", secret(&o))
	}
	if o.Claim == "" {
		add("Texts, models and output_dir, shared by all pods. It goes, with all it holds, when it is deleted.", claim(&o))
	}
	if !o.alone() && !o.JobSet {
		add(fmt.Sprintf("The pods' names, from before they are ready: %[1]s-0.%[1]s, %[1]s-1.%[1]s, ...", o.Name), service(&o))
	}
	add("Only pods of the run reach its pods: gradients travel unencrypted.", networkPolicy(&o))
	if n := o.mustStay(); n > 0 {
		add("How many pods a drain must leave in place.", disruptionBudget(&o, n))
	}
	if o.PodMonitor {
		add("Where Prometheus reads the metrics.", podMonitor(&o))
	}
	add("One pod a node.", workload(&o))
	return list, nil
}

func meta(o *Options, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: o.Namespace, Labels: labels(o)}
}

func typeMeta(version schema.GroupVersion, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: version.String(), Kind: kind}
}

func serviceAccount(o *Options) runtime.Object {
	return &corev1.ServiceAccount{
		TypeMeta: typeMeta(corev1.SchemeGroupVersion, "ServiceAccount"), ObjectMeta: meta(o, o.Name),
		AutomountServiceAccountToken: ptr(false),
	}
}

func configMap(o *Options) runtime.Object {
	return &corev1.ConfigMap{
		TypeMeta: typeMeta(corev1.SchemeGroupVersion, "ConfigMap"), ObjectMeta: meta(o, o.configMap()),
		Immutable: ptr(true),
		Data:      map[string]string{configFile: string(o.Config)},
	}
}

func secret(o *Options) runtime.Object {
	return &corev1.Secret{
		TypeMeta: typeMeta(corev1.SchemeGroupVersion, "Secret"), ObjectMeta: meta(o, o.keySecret()),
		Immutable:  ptr(true), // another key would shut new pods out
		Type:       corev1.SecretTypeOpaque,
		StringData: map[string]string{KeyFile: o.Key + "\n"},
	}
}

func claim(o *Options) runtime.Object {
	mode := corev1.ReadWriteMany
	if o.alone() {
		mode = corev1.ReadWriteOnce // more storage classes have it
	}
	c := &corev1.PersistentVolumeClaim{
		TypeMeta: typeMeta(corev1.SchemeGroupVersion, "PersistentVolumeClaim"), ObjectMeta: meta(o, o.claim()),
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{mode},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: *o.Storage}},
		},
	}
	if o.StorageClass != "" {
		c.Spec.StorageClassName = &o.StorageClass
	}
	return c
}

func service(o *Options) runtime.Object {
	return &corev1.Service{
		TypeMeta: typeMeta(corev1.SchemeGroupVersion, "Service"), ObjectMeta: meta(o, o.Name),
		Spec: corev1.ServiceSpec{
			ClusterIP:                corev1.ClusterIPNone,
			PublishNotReadyAddresses: true,
			Selector:                 selector(o).MatchLabels,
			Ports: []corev1.ServicePort{
				servicePort("control", o.Port, corev1.ProtocolTCP),
				servicePort("gossip", o.Port, corev1.ProtocolUDP),
			},
		},
	}
}

func servicePort(name string, port int, protocol corev1.Protocol) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: int32(port), TargetPort: intstr.FromInt32(int32(port)), Protocol: protocol}
}

// networkPolicy lets the run's pods reach each other at any port, since Gloo and NCCL choose theirs, and everybody the metrics.
func networkPolicy(o *Options) runtime.Object {
	rules := []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{PodSelector: selector(o)}}}}
	if o.MetricsPort > 0 {
		rules = append(rules, networkingv1.NetworkPolicyIngressRule{Ports: []networkingv1.NetworkPolicyPort{
			{Protocol: ptr(corev1.ProtocolTCP), Port: ptr(intstr.FromInt32(int32(o.MetricsPort)))}}})
	}
	return &networkingv1.NetworkPolicy{
		TypeMeta: typeMeta(networkingv1.SchemeGroupVersion, "NetworkPolicy"), ObjectMeta: meta(o, o.Name),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: *selector(o),
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			Ingress:     rules,
		},
	}
}

// mustStay is how many pods a drain leaves in place. An elastic run goes on with MIN; a fixed one starts again from its
// checkpoint whenever a pod goes, so let one go at a time.
func (o *Options) mustStay() int {
	if o.elastic() {
		return o.MinNodes
	}
	return o.MaxNodes - 1
}

// disruptionBudget counts pods from below: for those of a Job, Kubernetes takes no other form.
func disruptionBudget(o *Options, n int) runtime.Object {
	return &policyv1.PodDisruptionBudget{
		TypeMeta: typeMeta(policyv1.SchemeGroupVersion, "PodDisruptionBudget"), ObjectMeta: meta(o, o.Name),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable:               ptr(intstr.FromInt32(int32(n))),
			Selector:                   selector(o),
			UnhealthyPodEvictionPolicy: ptr(policyv1.AlwaysAllow), // a pod that does not work holds up no drain
		},
	}
}

func podMonitor(o *Options) runtime.Object {
	return &PodMonitor{
		TypeMeta: typeMeta(monitoringVersion, "PodMonitor"), ObjectMeta: meta(o, o.Name),
		Spec: PodMonitorSpec{Selector: *selector(o), Endpoints: []PodMetricsEndpoint{{Port: metricsPort, Path: "/metrics"}}},
	}
}
