package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/k8s"
	"github.com/ddprun/ddprun/launch"
)

var update = flag.Bool("update", false, "write k8s/examples and k8s/kustomize")

const k8sDir = "../../k8s"

// generated are the files below k8s that ddprun writes, by the flags that it is given for them.
var generated = []struct{ path, flags string }{
	{"examples/gpu.yaml", "--image registry.example.com/ddprun:1 --nodes 4 --gpus-per-node 8 --cpus-per-node 96 --memory-per-node 800Gi --shm-size 64Gi " +
		"--resource rdma/hca=8 --topology topology.kubernetes.io/zone --key-secret ddprun-key --pvc corpora"},
	{"examples/cpu.yaml", "--image registry.example.com/ddprun-cpu:1 --nodes 2 --nproc 2 --cpus-per-node 16 --memory-per-node 32Gi --key-secret ddprun-key " +
		"--storage 200Gi --storage-class nfs"},
	{"examples/elastic.yaml", "--image registry.example.com/ddprun:1 --nodes 2:8 --start 4 --gpus-per-node 8 --key-secret ddprun-key --pvc corpora " +
		"--metrics-port 9400 --pod-monitor --replace fast"},
	{"examples/kueue.yaml", "--image registry.example.com/ddprun:1 --nodes 2:8 --gpus-per-node 8 --key-secret ddprun-key --pvc corpora --queue team --namespace team"},
	{"examples/jobset.yaml", "--image registry.example.com/ddprun:1 --nodes 4 --gpus-per-node 8 --key-secret ddprun-key --pvc corpora --jobset"},
	{"examples/single.yaml", "--image registry.example.com/ddprun:1 --gpus-per-node 8 --ttl 168h"},
}

// base are the flags of the kustomize base, one file a document.
const base = "--image registry.example.com/ddprun:1 --nodes 4 --gpus-per-node 8 --key-secret ddprun-key --pvc ddprun-data"

// manifests returns what ddprun k8s prints for the configuration at path.
func manifests(t *testing.T, path, flags string) string {
	t.Helper()
	var out, problems strings.Builder
	if code := run(append([]string{"k8s", path}, strings.Fields(flags)...), &out, &problems); code != 0 {
		t.Fatalf("ddprun k8s %s %s: exit code %d\n%s", path, flags, code, &problems)
	}
	return out.String()
}

// TestGeneratedManifests: the manifests in the repository are those that ddprun writes.
func TestGeneratedManifests(t *testing.T) {
	for _, g := range generated {
		text := manifests(t, filepath.Join(k8sDir, "examples/train.yaml"), g.flags)
		golden(t, g.path, fmt.Sprintf("# Written by: ddprun k8s train.yaml %s\n", g.flags)+text)
	}
	source := filepath.Join(k8sDir, "examples/train.yaml")
	var names []string
	for doc := range strings.SplitSeq(manifests(t, source, base), "---\n") {
		var kind struct{ Kind string }
		if err := yaml.Unmarshal([]byte(doc), &kind); err != nil {
			t.Fatal(err)
		}
		if kind.Kind == "ConfigMap" {
			continue // kustomize makes it of train.yaml
		}
		name := strings.ToLower(kind.Kind) + ".yaml"
		names = append(names, name)
		golden(t, "kustomize/base/"+name, "# Written by: ddprun k8s train.yaml "+base+"\n"+doc)
	}
	config, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "kustomize/base/train.yaml", string(config))
	var listed struct{ Resources []string }
	text, err := os.ReadFile(filepath.Join(k8sDir, "kustomize/base/kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &listed); err != nil || !slices.Equal(listed.Resources, names) {
		t.Errorf("kustomization.yaml lists %v, the base is %v (%v)", listed.Resources, names, err)
	}
}

func golden(t *testing.T, path, want string) {
	t.Helper()
	path = filepath.Join(k8sDir, path)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	} else if string(got) != want {
		t.Errorf("%s is not what ddprun writes; run: go test ./cmd/ddprun -run Manifests -update", path)
	}
}

// TestNoKeyInTheRepository: a key that is in a repository is none. single.yaml needs none, for one pod.
func TestNoKeyInTheRepository(t *testing.T) {
	paths, err := filepath.Glob(k8sDir + "/*/*.yaml")
	if err != nil || len(paths) < len(generated) {
		t.Fatal(paths, err)
	}
	key := regexp.MustCompile(`[0-9a-f]{64}|stringData`)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if found := key.Find(text); found != nil {
			t.Errorf("%s holds %s", path, found)
		}
	}
}

// TestK8sConfigurationsLoad: the configurations beside the manifests are ones that ddprun takes without a note.
func TestK8sConfigurationsLoad(t *testing.T) {
	for _, path := range []string{"examples/train.yaml", "kustomize/overlays/large/train.yaml"} {
		loaded, err := config.Load(filepath.Join(k8sDir, path), nil, nil)
		if err != nil {
			t.Error(err)
		} else if len(loaded.Notes) > 0 {
			t.Errorf("%s: %v", path, loaded.Notes)
		}
	}
}

// TestKustomizeOnServer: kubectl builds the base and the overlay, and a real server takes both.
func TestKustomizeOnServer(t *testing.T) {
	on := os.Getenv("DDPRUN_K8S_ON")
	if on == "" {
		t.Skip("DDPRUN_K8S_ON is not set: no Kubernetes to ask (docs/kubernetes.md says what it names)")
	}
	for dir, nodes := range map[string]string{"base": "4", "overlays/large": "8"} {
		dir, err := filepath.Abs(filepath.Join(k8sDir, "kustomize", dir))
		if err != nil {
			t.Fatal(err)
		}
		text, err := exec.CommandContext(t.Context(), on, "ctl", "kubectl", "kustomize", dir).CombinedOutput()
		for _, want := range []string{"completions: " + nodes, "parallelism: " + nodes, `value: "` + nodes + `"`} {
			if err != nil || !strings.Contains(string(text), want) {
				t.Fatalf("%s: %v, want %s\n%s", dir, err, want, text)
			}
		}
		apply := exec.CommandContext(t.Context(), on, "ctl", "kubectl", "apply", "--dry-run=server", "--validate=strict", "-f", "-")
		apply.Stdin = strings.NewReader(string(text))
		if out, err := apply.CombinedOutput(); err != nil || strings.Contains(string(out), "Warning") {
			t.Errorf("%s: %v\n%s", dir, err, out)
		}
	}
}

// TestFinalExitCodes: the Job fails at once after the codes that launch never wants to be started again after, and no others.
func TestFinalExitCodes(t *testing.T) {
	got := k8s.FinalExitCodes()
	for code, final := range map[int32]bool{launch.ExitDone: false, launch.ExitFailed: true, 2: false, launch.ExitComeAgain: false,
		launch.ExitConfig: true, launch.ExitNoProgress: true, launch.ExitSignal + 9: false, launch.ExitSignal + 15: false} {
		if slices.Contains(got, code) != final {
			t.Errorf("exit code %d: final codes are %v", code, got)
		}
	}
}

// TestK8sBadInput: whatever is wrong has exit code 78 and a message that names it, and no manifest is printed.
func TestK8sBadInput(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "train.yaml", "model: model\ndata: text.txt\noutput_dir: out\nglobal_batch_size: 64\n")
	put(t, "cpu.yaml", "model: model\ndata: text.txt\noutput_dir: out\ndevice: cpu\n")
	put(t, "wrong.yaml", "model: model\ndata: text.txt\noutput_dir: out\nlearning_rat: 1\n")
	for _, c := range []struct{ args, want string }{
		{"", "no configuration file given"},
		{"nowhere.yaml --image a", "nowhere.yaml: cannot read the configuration"},
		{"wrong.yaml --image a", "wrong.yaml:4: learning_rat: unknown key; did you mean learning_rate?"},
		{"train.yaml", "--image: none given; name the image that k8s/Dockerfile builds"},
		{"train.yaml --image a --nodes x", `--nodes: want a number, or MIN:MAX for an elastic run, got "x"`},
		{"train.yaml --image a --nodes 2:", `--nodes: want a number, or MIN:MAX for an elastic run, got "2:"`},
		{"train.yaml --image a --nodes 3:2", "--nodes: want a number from 1 to 4096, or MIN:MAX with MIN not above MAX"},
		{"train.yaml --image a --nodes 9", "--nodes 9 with 1 ranks each: global_batch_size: 64 is 8 micro-batches of 8, which 9 ranks cannot share"},
		{"train.yaml --image a --replace slow", `--replace: want safe or fast, got "slow"`},
		{"train.yaml --image a --memory-per-node lots", `--memory-per-node: want a quantity such as 16, 500m or 64Gi, got "lots"`},
		{"train.yaml --image a --storage 10GB", `--storage: want a quantity such as 16, 500m or 64Gi, got "10GB"`},
		{"train.yaml --image a --resource rdma/hca", `--resource: want name=number, once for a name, such as rdma/hca=1, got "rdma/hca"`},
		{"train.yaml --image a --resource a/b=1 --resource a/b=2", "--resource: want name=number, once for a name"},
		{"train.yaml --image a --resource a/b=x", "--resource a/b: want a quantity"},
		{"train.yaml --image a --node-selector gpu", `--node-selector: want key=value, got "gpu"`},
		{"train.yaml --image a --toleration =x", `--toleration: ""`},
		{"train.yaml --image a --volume a", `--volume: want claim:path or claim:path:ro, got "a"`},
		{"train.yaml --image a --volume a:/b:rw", `--volume: want claim:path or claim:path:ro, got "a:/b:rw"`},
		{"train.yaml --image a --set seed=x", "--set seed: seed: want a whole number"},
		{"train.yaml --image a --set output_dir=/out", "output_dir: /out lies on no volume"},
		{"train.yaml --image a --set device=cuda", "--set device: device: cuda, but no GPU is asked for; give --gpus-per-node"},
		{"cpu.yaml --image a --gpus-per-node 1", "cpu.yaml:4: device: cpu, but --gpus-per-node asks for 1"},
		{"train.yaml --image a --nproc 2000", "--nproc: must be at most 1024, got 2000"},
		{"train.yaml --image a --grace 10", `invalid argument "10" for "--grace" flag`},
	} {
		var out, problems strings.Builder
		code := run(append([]string{"k8s"}, strings.Fields(c.args)...), &out, &problems)
		if code != launch.ExitConfig || !strings.Contains(problems.String(), c.want) || out.Len() > 0 {
			t.Errorf("%s: exit code %d, want %d; got\n%s%swant\n%s", c.args, code, launch.ExitConfig, &out, &problems, c.want)
		}
	}
	t.Setenv("DDPRUN_CFG_SEED", "1")
	var out, problems strings.Builder
	if code := run([]string{"k8s", "train.yaml", "--image", "a"}, &out, &problems); code != launch.ExitConfig || !strings.Contains(problems.String(), "DDPRUN_CFG_SEED is set here, where no pod sees it; give --set seed=... instead") {
		t.Errorf("exit code %d, %s", code, &problems)
	}
}

// TestK8sKey: each call makes another key; with --key-secret none is made, and one pod needs none.
func TestK8sKey(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "train.yaml", "model: model\ndata: text.txt\noutput_dir: out\n")
	key := regexp.MustCompile(`[0-9a-f]{64}`)
	first, second := key.FindString(manifests(t, "train.yaml", "--image a --nodes 2")), key.FindString(manifests(t, "train.yaml", "--image a --nodes 2"))
	if first == "" || first == second {
		t.Errorf("keys %q and %q", first, second)
	}
	for _, flags := range []string{"--image a --nodes 2 --key-secret k", "--image a"} {
		if text := manifests(t, "train.yaml", flags); strings.Contains(text, "kind: Secret") {
			t.Errorf("%s: a Secret is written\n%s", flags, text)
		}
	}
}
