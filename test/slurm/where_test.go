package slurm

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/launch/where"
	"github.com/ddprun/ddprun/slurm"
)

// ask runs a line of bash as a job's script, with options of sbatch, in which $WHERE says where it is, and returns the answers by node rank.
func ask(t *testing.T, host, line string, options ...string) []answer {
	t.Helper()
	w := newWork(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w.write("ask.sh", "#!/bin/bash\n"+strings.Join(options, "\n")+"\nexport "+answerWhere+"="+host+" WHERE="+self+"\n"+line+"\n")
	on(t, "ctl", "sbatch", "--wait", "--output="+w.path("answer"), w.path("ask.sh"))
	var answers []answer
	for text := range strings.Lines(w.read("answer")) {
		var a answer
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Fatalf("%v: %s", err, w.read("answer"))
		}
		answers = append(answers, a)
	}
	slices.SortFunc(answers, func(a, b answer) int { return strings.Compare(a.Node, b.Node) })
	return answers
}

// expect wants an agent on each of the nodes, in their order, all of one run.
func expect(t *testing.T, answers []answer, names ...string) {
	t.Helper()
	if len(answers) != len(names) {
		t.Fatalf("%d answers, want %d: %+v", len(answers), len(names), answers)
	}
	for i, a := range answers {
		want := where.Place{MinNodes: len(names), MaxNodes: len(names), NodeRank: i, RunID: answers[0].Place.RunID, Join: names, Port: answers[0].Place.Port,
			MaxRestarts: -1, Source: where.FromSlurm}
		if a.Node != names[i] || a.Error != "" || !reflect.DeepEqual(a.Place, want) || !strings.HasPrefix(want.RunID, "slurm-") || want.Port < 16000 {
			t.Errorf("%s: %+v\nwant %+v", names[i], a, want)
		}
	}
}

func TestWhere(t *testing.T) {
	t.Run("a step", func(t *testing.T) {
		expect(t, ask(t, "-", `srun --ntasks-per-node=1 "$WHERE"`, "#SBATCH --nodes=3"), "node1", "node2", "node3")
	})
	t.Run("a step smaller than its job", func(t *testing.T) {
		expect(t, ask(t, "-", `srun --nodes=2 --ntasks=2 --relative=1 "$WHERE"`, "#SBATCH --nodes=3"), "node2", "node3")
	})
	t.Run("both components of a heterogeneous job", func(t *testing.T) {
		expect(t, ask(t, "-", `srun --het-group=0,1 "$WHERE"`, "#SBATCH --nodes=1 --ntasks-per-node=1", "#SBATCH hetjob", "#SBATCH --nodes=2 --ntasks-per-node=1"),
			"node1", "node2", "node3")
	})
	t.Run("one component", func(t *testing.T) {
		expect(t, ask(t, "-", `srun --het-group=1 "$WHERE"`, "#SBATCH --nodes=1 --ntasks-per-node=1", "#SBATCH hetjob", "#SBATCH --nodes=2 --ntasks-per-node=1"),
			"node2", "node3")
	})
	for _, c := range []struct{ name, line, says string }{
		{"several tasks a node", `srun --ntasks-per-node=2 --ntasks=4 --overcommit "$WHERE"`, "2 tasks on a node, but one agent a node"},
		{"no step", `"$WHERE"`, "has 2 nodes, but ddprun runs in its script"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, a := range ask(t, "-", c.line, "#SBATCH --nodes=2") {
				if !strings.Contains(a.Error, c.says) {
					t.Errorf("%+v; want an error that says %q", a, c.says)
				}
			}
		})
	}
}

// A node's name that no resolver knows is asked of Slurm.
func TestAddressFromSlurm(t *testing.T) {
	answers := ask(t, "node3", `srun --ntasks-per-node=1 unshare --mount bash -c 'mount --bind /dev/null /etc/hosts && exec "$WHERE"'`, "#SBATCH --nodes=1")
	if len(answers) != 1 || len(answers[0].Addrs) != 1 || answers[0].Addrs[0].String() != "10.78.0.13" {
		t.Errorf("%+v; want 10.78.0.13", answers)
	}
}

// The real sbatch reads options as they were meant, whatever is in them.
func TestHostileOptions(t *testing.T) {
	for _, name := range []string{"a b", `"`, "'", `\`, `a"b\c'd`, "$HOME", "$(touch x)", "`x`", "#x", "a #b", "hetjob", "a hetjob b", "%j", "-x", "--x", "=", "a=b", "*", "\u00fc", "a,b;c|d&e>f<g", "!", "~", ":"} {
		w := newWork(t)
		w.job.Name, w.job.Sbatch = name, []string{"--hold", "--comment=" + name}
		w.job.Log = slurm.Pattern(w.dir+"/"+strings.NewReplacer("/", "", `\`, "").Replace(name)) + "-%j"
		w.submit()
		shown := on(t, "ctl", "scontrol", "show", "job", w.id)
		for _, want := range []string{"JobName=" + name + "\n", "Comment=" + name + " \n", "Requeue=1"} {
			if !strings.Contains(shown, want) {
				t.Errorf("%q: Slurm does not have %q:\n%s", name, want, shown)
			}
		}
	}
}
