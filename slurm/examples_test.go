package slurm

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the scripts of examples anew")

// examples are the jobs of examples/<name>.sh.
func examples() map[string]Job {
	base := Job{Name: "first", MinNodes: 4, MaxNodes: 4, NProc: 8, GPUsPerNode: 8, Time: "24:00:00", Log: "/shared/me/first-%j.log", Directory: "/shared/me",
		Program: []string{"/shared/bin/ddprun"}, Config: "/shared/me/train.yaml", OutputDir: "/shared/me/runs/first",
		SaveBefore: 2 * time.Minute, RejoinTimeout: time.Minute, MaxRequeues: 100}
	elastic, apptainer, enroot := base, base, base
	elastic.MinNodes, elastic.MaxNodes = 2, 8
	apptainer.Program = strings.Fields("apptainer exec --nv --bind /shared /shared/images/ddprun.sif ddprun")
	enroot.Program = []string{"ddprun"}
	enroot.Srun = []string{"--container-image=/shared/images/ddprun.sqsh", "--container-mounts=/shared:/shared"}
	return map[string]Job{"fixed": base, "elastic": elastic, "apptainer": apptainer, "enroot": enroot}
}

// The examples are what Script writes now.
func TestExamples(t *testing.T) {
	for name, job := range examples() {
		text, err := job.Script()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("examples", name+".sh")
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != text {
			t.Errorf("%s is not what Script writes (go test ./slurm -update): %v", path, err)
		}
	}
	files, err := filepath.Glob("examples/*")
	if err != nil || len(files) != len(examples()) {
		t.Errorf("examples: %v, %v", files, err)
	}
}
