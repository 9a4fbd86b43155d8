package slurm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// world is where a script runs with programs in Slurm's place that do what the test says.
type world struct {
	t   *testing.T
	dir string
	job Job
}

// Programs in Slurm's place. Each line of steps is one srun: its exit code, the code in outcome.json or - for none, the step of a checkpoint that
// it leaves or -, and what else happens: term (Slurm ends the job meanwhile), or nothing.
const (
	fakeSrun = `#!/bin/bash
cd "$WORLD" || exit 99
for arg; do printf '%s\0' "$arg"; case $arg in --key-file=*) stat -c '%a %s' "${arg#*=}" >>keys; cat "${arg#*=}" >>keys; echo >>keys;; esac; done >args
n=$(($(cat calls 2>/dev/null || echo 0) + 1)); echo $n >calls
read -r exit outcome checkpoint what <<<"$(sed -n "${n}p" steps)"
[[ $exit ]] || { echo "srun $n was not expected"; exit 99; }
[[ $checkpoint != - ]] && mkdir -p "out/checkpoint-$checkpoint"
[[ $outcome != - ]] && printf '{\n  "code": %s,\n  "reason": "\\n  \\"code\\": 5,",\n  "generation": %s,\n  "failure": {\n    "code": 9\n  }\n}\n' "$outcome" "$n" >out/.ddprun/outcome.json
[[ $what = term ]] && kill -TERM $PPID && sleep .1
exit "$exit"
`
	fakeSqueue = `#!/bin/bash
case $* in *%D*) cat "$WORLD/nodes";; *) cat "$WORLD/end";; esac
`
	fakeScontrol = `#!/bin/bash
echo "$*" >>"$WORLD/scontrol"
[[ -e $WORLD/refuse ]] && exit 1
kill -TERM $PPID
`
	fakeSleep = "#!/bin/bash\nexec " + sleepPath + " .01\n"
	sleepPath = "/bin/sleep"
)

// newWorld has two nodes and no time limit. steps are fakeSrun's.
func newWorld(t *testing.T, steps ...string) *world {
	w := &world{t: t, dir: t.TempDir(), job: testJob()}
	for name, text := range map[string]string{"bin/srun": fakeSrun, "bin/squeue": fakeSqueue, "bin/scontrol": fakeScontrol, "bin/sleep": fakeSleep,
		"steps": strings.Join(steps, "\n") + "\n", "nodes": "2\n", "end": "N/A\n"} {
		w.write(name, text)
	}
	w.job.Directory, w.job.OutputDir = w.dir, filepath.Join(w.dir, "out")
	return w
}

func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(name string) string {
	text, _ := os.ReadFile(filepath.Join(w.dir, name))
	return string(text)
}

// run runs the script as job id and returns its exit code and what it says.
func (w *world) run(id string) (int, string) {
	w.t.Helper()
	text, err := w.job.Script()
	if err != nil {
		w.t.Fatal(err)
	}
	bash := exec.Command("bash", "-c", text)
	bash.Env = []string{"PATH=" + filepath.Join(w.dir, "bin") + ":/usr/bin:/bin", "WORLD=" + w.dir, "SLURM_JOB_ID=" + id, "SLURM_JOB_NUM_NODES=2", "SLURMD_NODENAME=node1"}
	out, err := bash.CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		w.t.Fatal(err)
	}
	return bash.ProcessState.ExitCode(), string(out)
}

// Each way in which a run can end leads to what docs/slurm.md says.
func TestEndings(t *testing.T) {
	for _, c := range []struct {
		name     string
		steps    []string
		code     int
		calls    string // of srun
		requeued int
		says     string
	}{
		{"done", []string{"0 0 9"}, 0, "1", 0, "the run ended with 0"},
		{"done, though an agent was killed", []string{"137 0 9"}, 0, "1", 0, "the run ended with 0, srun with 137"},
		{"found finished", []string{"0 - -"}, 0, "1", 0, "srun ended with 0"},
		{"failed", []string{"1 1 9"}, 1, "1", 0, ""},
		{"failed, though agents say otherwise", []string{"75 1 9"}, 1, "1", 0, ""},
		{"wrong configuration", []string{"78 - -"}, 78, "1", 0, ""},
		{"no progress", []string{"93 93 -"}, 93, "1", 0, ""},
		{"stopped on request", []string{"75 75 9"}, 75, "1", 1, "with a checkpoint at step 9; queued again (time 1 of 5)"},
		{"stopped before an outcome", []string{"75 - -"}, 75, "1", 1, ""},
		{"told by Slurm", []string{"75 75 9 term"}, 75, "1", 0, "Slurm ends this job"},
		{"told by Slurm, and done", []string{"0 0 9 term"}, 0, "1", 0, ""},
		{"told by Slurm, and killed", []string{"137 - - term"}, 137, "1", 0, ""},
		{"an agent lost, then done", []string{"137 75 3", "0 0 9"}, 0, "2", 0, "starting the agents again"},
		{"crashes without a checkpoint", []string{"2 - -", "137 - -", "2 - -"}, 93, "3", 0, "three failures without a newer checkpoint"},
		{"crashes with checkpoints between", []string{"2 - 1", "2 - 2", "2 - 3", "2 - 4", "0 0 5"}, 0, "5", 0, ""},
		{"the same checkpoint each time", []string{"2 - 7", "2 - 7", "2 - 7"}, 93, "3", 0, ""},
		{"srun fails", []string{"71 - -"}, 75, "1", 1, "srun could not start the agents"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.steps...)
			code, said := w.run("41")
			if code != c.code || !strings.Contains(said, c.says) || strings.TrimSpace(w.read("calls")) != c.calls || strings.Count(w.read("scontrol"), "requeue 41") != c.requeued {
				t.Errorf("exit code %d after %s steps, scontrol %q; want %d after %s and %d requeues\n%s", code, w.read("calls"), w.read("scontrol"), c.code, c.calls, c.requeued, said)
			}
			if left, _ := filepath.Glob(w.dir + "/out/.ddprun/slurm-key*"); len(left) > 0 {
				t.Errorf("%v is left", left)
			}
		})
	}
}

// The key is new at each start, readable for its owner alone, and of 64 hexadecimal digits; agents get its path.
func TestKey(t *testing.T) {
	w := newWorld(t, "75 75 1", "0 0 2")
	w.write("out/.ddprun/slurm-key-41", "left by a start that was killed")
	w.run("41")
	w.run("41")
	lines := strings.Fields(w.read("keys"))
	if len(lines) != 6 || lines[0] != "600" || lines[1] != "64" || lines[3] != "600" || lines[2] == lines[5] || strings.Trim(lines[2]+lines[5], "0123456789abcdef") != "" {
		t.Errorf("keys: %q", lines)
	}
	args := strings.Split(w.read("args"), "\x00")
	want := append(append([]string{"--nodes=2", "--ntasks=2"}, w.job.Step()...), append(w.job.Agent(), "--key-file="+w.dir+"/out/.ddprun/slurm-key-41", "/shared/train.yaml", "")...)
	if strings.Join(args, "|") != strings.Join(want, "|") {
		t.Errorf("srun %q\nwant %q", args, want)
	}
}

// Requeues are counted over the starts of a job, not over jobs, and bounded.
func TestMaxRequeues(t *testing.T) {
	w := newWorld(t, "75 75 1", "75 75 2", "75 75 3", "75 75 4", "0 0 5")
	w.job.MaxRequeues = 2
	for i, says := range []string{"(time 1 of 2)", "(time 2 of 2)", "not queued again: that has been done 2 times"} {
		if code, said := w.run("41"); code != 75 || !strings.Contains(said, says) {
			t.Errorf("start %d: %d\n%s", i, code, said)
		}
	}
	if code, said := w.run("42"); code != 75 || !strings.Contains(said, "(time 1 of 2)") {
		t.Errorf("another job: %d\n%s", code, said)
	}
	if code, _ := w.run("42"); code != 0 || w.read("out/.ddprun/slurm-counts") != "" {
		t.Errorf("done: %d, counts %q", code, w.read("out/.ddprun/slurm-counts"))
	}
}

// Failures are counted over starts too.
func TestFailuresOverStarts(t *testing.T) {
	w := newWorld(t, "71 - -", "71 - -", "71 - -")
	w.run("41")
	w.run("41")
	if code, said := w.run("41"); code != 93 {
		t.Errorf("%d\n%s", code, said)
	}
	w = newWorld(t, "0 0 1")
	w.write("out/.ddprun/slurm-counts", "41 x$(touch pwned) 2 2\n") // torn
	if code, said := w.run("41"); code != 0 || w.read("pwned") != "" {
		t.Errorf("%d\n%s", code, said)
	}
}

func TestNodesThatAreLeft(t *testing.T) {
	w := newWorld(t, "0 0 1")
	w.write("nodes", "1\n")
	if code, said := w.run("41"); code != 75 || w.read("calls") != "" || !strings.Contains(said, "1 of at least 2 nodes are left") {
		t.Errorf("fixed: %d\n%s", code, said)
	}
	w.job.MinNodes = 1
	if code, said := w.run("42"); code != 0 || !strings.HasPrefix(w.read("args"), "--nodes=1\x00--ntasks=1\x00") {
		t.Errorf("elastic: %d, %q\n%s", code, w.read("args"), said)
	}
	w = newWorld(t, "0 0 1")
	w.write("nodes", "") // squeue cannot be asked
	if code, said := w.run("41"); code != 0 || !strings.HasPrefix(w.read("args"), "--nodes=2\x00") {
		t.Errorf("no squeue: %d\n%s", code, said)
	}
}

// The first node is lost, with srun and the script on it: whoever sees the run end, or is the last agent, queues the job again, but only then, and
// once. The step is run without the script here.
func TestLastWord(t *testing.T) {
	for _, c := range []struct {
		name, agent, left string
		requeued          int
	}{
		{"the run ends", "echo 1 >out/.ddprun/outcome.json; exit 75", "node2\nnode3\n", 1},
		{"all crash", "exit 2", "node2\nnode3\n", 1},
		{"one leaves, the other does later", "[[ $SLURMD_NODENAME = node2 ]] || " + sleepPath + " .5; echo $SLURMD_NODENAME >>scontrol; exit 75", "node2\nnode3\n", 1},
		{"one on a node that is lost too", "[[ $SLURMD_NODENAME = node2 ]] || " + sleepPath + " 1; exit 75", "node2\n", 1},
		{"the first node is there", "(sleep .3; touch up) & echo 1 >out/.ddprun/outcome.json; exit 75", "node1\nnode2\nnode3\n", 0},
		{"all crash, and the first node is there", "touch up; exit 2", "node1\nnode2\nnode3\n", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.job.MinNodes, w.job.Program = 1, []string{filepath.Join(w.dir, "agent")}
			w.write("agent", "#!/bin/bash\ncd "+w.dir+"\n"+c.agent+"\n")
			w.write("bin/timeout", "#!/bin/bash\n[[ -e $WORLD/up ]]\n") // whether srun is there
			w.write("bin/squeue", "#!/bin/bash\necho names\n")
			w.write("bin/scontrol", "#!/bin/bash\nif [[ $1 = requeue ]]; then echo \"$*\" >>\"$WORLD/scontrol\"; else cat \"$WORLD/left\"; fi\n")
			w.write("left", c.left)
			w.write("bin/srun", "#!/bin/bash\nwhile [[ $1 != bash ]]; do shift; done\nexport SLURM_STEP_ID=0 SLURM_SRUN_COMM_HOST=127.0.0.1 SLURM_SRUN_COMM_PORT=1\n"+
				"SLURMD_NODENAME=node2 \"$@\" & SLURMD_NODENAME=node3 \"$@\" & wait $!; wait; exit 1\n")
			w.run("41")
			if got := strings.Count(w.read("scontrol"), "requeue 41"); got != c.requeued {
				t.Errorf("%d requeues, want %d", got, c.requeued)
			}
			if said := w.read("scontrol"); strings.Contains(said, "node3") && said != "node2\nnode3\nrequeue 41\n" {
				t.Errorf("queued again while an agent ran:\n%s", said)
			}
			if left, _ := filepath.Glob(w.dir + "/out/.ddprun/slurm-word*"); len(left) > 0 {
				t.Errorf("%v is left", left)
			}
		})
	}
}

// Near the time limit a start would not be told to save again.
func TestTimeLimitIsNear(t *testing.T) {
	w := newWorld(t, "137 75 1", "0 0 1")
	w.write("bin/squeue", "#!/bin/bash\ncase $* in *%D*) echo 2;; *) date -d '+150 seconds' +%FT%T;; esac\n")
	if code, said := w.run("41"); code != 75 || !strings.Contains(said, "the time limit is near") {
		t.Errorf("%d\n%s", code, said)
	}
	w.write("bin/squeue", "#!/bin/bash\ncase $* in *%D*) echo 2;; *) date -d '+1 hour' +%FT%T;; esac\n")
	w.write("steps", "-\n137 75 2\n0 0 3\n")
	if code, said := w.run("41"); code != 0 {
		t.Errorf("%d\n%s", code, said)
	}
}

func TestRequeueRefused(t *testing.T) {
	w := newWorld(t, "75 75 1")
	w.write("refuse", "")
	if code, said := w.run("41"); code != 75 || !strings.Contains(said, "submit it again to go on") {
		t.Errorf("%d\n%s", code, said)
	}
}
