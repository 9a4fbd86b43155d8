package slurm

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddprun/ddprun/slurm"
)

// patience bounds every wait: far more than any takes on a busy machine.
const patience = 3 * time.Minute

// script carries out cluster.sh.
func script(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("bash", append([]string{"cluster.sh", args[0], cluster}, args[1:]...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("cluster.sh %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// on runs a command on a host of the cluster and returns what it says.
func on(t testing.TB, host string, command ...string) string {
	t.Helper()
	return script(t, append([]string{"on", host}, command...)...)
}

// until waits for a condition.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !condition(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// work is a directory that all nodes see, with a job whose output_dir lies in it.
type work struct {
	t   *testing.T
	dir string
	job slurm.Job
	id  string // of the job, once it is submitted
}

// newWork skips the test where there is no Slurm. At the test's end all jobs are cancelled and all nodes are up and idle.
func newWork(t *testing.T) *work {
	t.Helper()
	if missing != "" {
		t.Skip(missing)
	}
	w := &work{t: t, dir: t.TempDir()}
	w.job = slurm.Job{Name: "test", MinNodes: nodes, MaxNodes: nodes, NProc: 2, CPUsPerNode: 2, Log: slurm.Pattern(w.dir) + "/log-%j", Directory: w.dir, Program: []string{w.path("agent")},
		Config: w.path("train.yaml"), OutputDir: w.path("out"), SaveBefore: 50 * time.Second, RejoinTimeout: 3 * time.Second, MaxRequeues: 5}
	t.Cleanup(func() {
		on(t, "ctl", "scancel", "--user=root")
		for _, host := range []string{"node1", "node2", "node3"} {
			script(t, "cable", host, "up")
			script(t, "power", host, "on")
		}
		until(t, "idle nodes", func() bool {
			return strings.Count(on(t, "ctl", "sinfo", "--noheader", "--Node", "--format=%t"), "idle\n") == nodes
		})
		if t.Failed() {
			t.Logf("the job's log:\n%s", w.log())
		}
	})
	return w
}

func (w *work) path(name string) string { return filepath.Join(w.dir, name) }

func (w *work) write(name, text string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.path(name)), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path(name), []byte(text), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

func (w *work) read(name string) string {
	text, _ := os.ReadFile(w.path(name))
	return string(text)
}

// submit gives the job's script to sbatch.
func (w *work) submit() {
	w.t.Helper()
	text, err := w.job.Script()
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("job.sh", text)
	w.id = strings.TrimSpace(on(w.t, "ctl", "sbatch", "--parsable", w.path("job.sh")))
}

// log is what the job has said so far.
func (w *work) log() string { return w.read("log-" + w.id) }

// says waits for text in the log, n times.
func (w *work) says(text string, n int) {
	w.t.Helper()
	until(w.t, text, func() bool { return strings.Count(w.log(), text) >= n })
}

// field reads one of what Slurm knows of the job, such as JobState.
func (w *work) field(name string) string {
	w.t.Helper()
	found := regexp.MustCompile(`(?:^| )` + name + `=(\S*)`).FindStringSubmatch(on(w.t, "ctl", "scontrol", "--oneliner", "show", "job", w.id))
	if found == nil {
		w.t.Fatalf("job %s has no %s", w.id, name)
	}
	return found[1]
}

// ends waits for the end of the job, which must be as said, after so many restarts; empty: any number of them.
func (w *work) ends(state, exitCode, restarts string) {
	w.t.Helper()
	until(w.t, "the end of job "+w.id, func() bool {
		return slices.Contains([]string{"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}, w.field("JobState"))
	})
	if s, c, r := w.field("JobState"), w.field("ExitCode"), w.field("Restarts"); s != state || c != exitCode || restarts != "" && r != restarts {
		w.t.Errorf("the job ended as %s, exit code %s, %s restarts; want %s, %s, %s", s, c, r, state, exitCode, restarts)
	}
	if left, _ := filepath.Glob(w.path("out/.ddprun/slurm-key*")); len(left) > 0 {
		w.t.Errorf("%v is left", left)
	}
}
