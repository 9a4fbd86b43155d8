package slurm

import (
	"strings"
	"testing"
	"time"
)

// testJob is a job that is right, of two nodes.
func testJob() Job {
	return Job{Name: "first", MinNodes: 2, MaxNodes: 2, NProc: 8, GPUsPerNode: 8, Time: "24:00:00", Log: "/shared/first-%j.log", Directory: "/shared",
		Program: []string{"/opt/ddprun"}, Config: "/shared/train.yaml", OutputDir: "/shared/out", SaveBefore: 2 * time.Minute, RejoinTimeout: time.Minute, MaxRequeues: 5}
}

func TestOptions(t *testing.T) {
	text, err := testJob().Script()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\n#SBATCH --nodes=2\n", "\n#SBATCH --gpus-per-node=8\n", "\n#SBATCH --exclusive\n", "\n#SBATCH --signal=USR1@120\n", "\n#SBATCH --requeue\n",
		"\n#SBATCH --open-mode=append\n", "--ntasks-per-node=1 --kill-on-bad-exit=0 --wait=0", "agent=(/opt/ddprun --nnodes=2 --nproc=8 --rejoin-timeout=1m0s)", "\nmax_requeues=5 "} {
		if !strings.Contains(text, want) {
			t.Errorf("the script does not hold %q", want)
		}
	}
	if strings.Contains(text, "--no-kill") {
		t.Error("a fixed number of nodes keeps the job after a lost one")
	}
	j := testJob()
	j.MinNodes, j.CPUsPerNode, j.GPUsPerNode = 1, 4, 0
	j.Sbatch, j.Srun = []string{"--constraint=a&b"}, []string{"--mpi=none"}
	if text, err = j.Script(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\n#SBATCH --nodes=1-2\n", "\n#SBATCH --cpus-per-task=4\n", "\n#SBATCH --no-kill\n", "\n#SBATCH --constraint=\"a&b\"\n", "--no-kill --cpus-per-task=4 --mpi=none)",
		"--nnodes=1:2"} {
		if !strings.Contains(text, want) {
			t.Errorf("the elastic script does not hold %q", want)
		}
	}
	for _, never := range []string{"--gpus", "--exclusive", "#SBATCH --ntasks"} { // with tasks in the job Slurm gives MIN nodes and no more
		if strings.Contains(text, never) {
			t.Errorf("the elastic script holds %q", never)
		}
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		change func(*Job)
		says   string
	}{
		{func(j *Job) { j.MinNodes = 0 }, "from 0 to 2 nodes"},
		{func(j *Job) { j.MaxNodes = 1 }, "from 2 to 1 nodes"},
		{func(j *Job) { j.NProc = 0 }, "0 ranks a node"},
		{func(j *Job) { j.Time = "tomorrow" }, `time limit "tomorrow"`},
		{func(j *Job) { j.Time = "1:0:0\n#SBATCH --uid=0" }, "time limit"},
		{func(j *Job) { j.Name = "a\nb" }, "what no line of #SBATCH can"},
		{func(j *Job) { j.Name = "\xff" }, "what no line of #SBATCH can"},
		{func(j *Job) { j.Log = `/a\b-%j` }, "backslash"},
		{func(j *Job) { j.OutputDir = "out" }, `output directory "out" is no absolute path`},
		{func(j *Job) { j.Sets = []string{"a\x00"} }, "holds a NUL"},
		{func(j *Job) { j.SaveBefore = 0 }, "before the time limit"},
		{func(j *Job) { j.Sbatch = []string{"--array=1-3"} }, "its elements would share one output_dir"},
		{func(j *Job) { j.Sbatch = []string{"--ntasks=8"} }, "one agent a node starts all its ranks"},
		{func(j *Job) { j.Srun = []string{"--kill-on-bad-exit=1"} }, "must not end the others"},
		{func(j *Job) { j.Sbatch = []string{"-t 5"} }, "want a long one in one word"},
		{func(j *Job) { j.Sbatch = []string{"--comment a"} }, "want a long one in one word"},
		{func(j *Job) { j.Program = nil }, "no program"},
	} {
		j := testJob()
		c.change(&j)
		if _, err := j.Script(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v; want an error that says %q", err, c.says)
		}
	}
}
