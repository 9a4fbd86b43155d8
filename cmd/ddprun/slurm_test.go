package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// slurmConfig writes a configuration in a directory of its own, makes that the working directory, and returns it.
func slurmConfig(t *testing.T, more string) string {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	text := "model: m\ndata: d\noutput_dir: runs/first\nper_device_train_batch_size: 2\nglobal_batch_size: 32\n" + more
	if err := os.WriteFile("train.yaml", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func runSlurm(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(append([]string{"slurm"}, args...), &out, &err)
	return code, out.String(), err.String()
}

func TestSlurmScript(t *testing.T) {
	dir := slurmConfig(t, "")
	code, out, said := runSlurm("train.yaml", "--nodes", "2-4", "--gpus-per-node=4", "--time", "1:00:00", "--set", "seed=7", "--ddprun", "/opt/ddprun",
		"--sbatch=--constraint=a100", "--", "--tee", "all")
	if code != 0 {
		t.Fatal(said)
	}
	for _, want := range []string{"#!/bin/bash\n", "\n#SBATCH --job-name=first\n", "\n#SBATCH --nodes=2-4\n", "\n#SBATCH --constraint=a100\n", "\n#SBATCH --output=" + dir + "/first-%j.log\n",
		"\ndirectory=" + dir + "\n", "\noutput_dir=" + dir + "/runs/first\n", "\nconfig=" + dir + "/train.yaml\n",
		"\nagent=(/opt/ddprun --nnodes=2:4 --nproc=4 --rejoin-timeout=1m0s --set 'seed=7' --tee all)\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("the script does not hold %q:\n%s", want, out)
		}
	}
}

// In a container ddprun is what it has under that name.
func TestSlurmContainer(t *testing.T) {
	slurmConfig(t, "")
	_, out, said := runSlurm("train.yaml", "--nodes=2", "--nproc=1", "--prefix", "apptainer exec  --nv /shared/ddprun.sif")
	if !strings.Contains(out, "\nagent=(apptainer exec --nv /shared/ddprun.sif ddprun --nnodes=2 ") {
		t.Errorf("%s%s", out, said)
	}
	_, out, said = runSlurm("train.yaml", "--nodes=2", "--nproc=1", "--srun=--container-image=/shared/ddprun.sqsh")
	if !strings.Contains(out, " --container-image=/shared/ddprun.sqsh)\nagent=(ddprun --nnodes=2 ") {
		t.Errorf("%s%s", out, said)
	}
}

func TestSlurmRefuses(t *testing.T) {
	slurmConfig(t, "")
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"train.yaml", "--nproc=1"}, "--nodes: is required"},
		{[]string{"train.yaml", "--nodes=4-2", "--nproc=1"}, `--nodes: want N or MIN-MAX, got "4-2"`},
		{[]string{"train.yaml", "--nodes=2"}, "give --gpus-per-node, or --nproc where there are none"},
		{[]string{"train.yaml", "--nodes=8", "--nproc=8"}, "which 64 ranks cannot share"},
		{[]string{"train.yaml", "--nodes=2", "--nproc=1", "--time=soon"}, "time limit"},
		{[]string{"train.yaml", "--nodes=2", "--nproc=1", "--sbatch=--array=1-3"}, "share one output_dir"},
		{[]string{"train.yaml", "--nodes=2", "--nproc=1", "--", "--nnodes=3"}, "--nnodes=3 behind --: the script gives that flag itself"},
		{[]string{"nowhere.yaml", "--nodes=2", "--nproc=1"}, "nowhere.yaml"},
		{[]string{"--nodes=2", "--nproc=1"}, "no configuration file given"},
		{[]string{"train.yaml", "more.yaml", "--nodes=2"}, "want one configuration file"},
	} {
		if code, out, said := runSlurm(c.args...); code != 78 || !strings.Contains(said, c.says) || out != "" {
			t.Errorf("%v: exit code %d, %q, %q; want 78 and %q", c.args, code, out, said, c.says)
		}
	}
}

func TestSlurmSubmit(t *testing.T) {
	dir := slurmConfig(t, "")
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	args := []string{"train.yaml", "--nodes=2", "--nproc=1", "--submit"}
	if code, _, said := runSlurm(args...); code != 1 || !strings.Contains(said, "sbatch") {
		t.Errorf("no sbatch: %d, %q", code, said)
	}
	if err := os.WriteFile(filepath.Join(bin, "sbatch"), []byte("#!/bin/bash\nread -r first\necho \"Submitted batch job 7 $first\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if code, out, said := runSlurm(args...); code != 0 || out != "Submitted batch job 7 #!/bin/bash\n" {
		t.Errorf("%d, %q, %q", code, out, said)
	}
}
