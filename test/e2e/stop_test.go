package e2e

import (
	"regexp"
	"syscall"
	"testing"

	"github.com/ddprun/ddprun/test/kit"
)

// A run that is asked to stop in an evaluation ends in the midst of it, with a checkpoint; the same command begins with that evaluation, and comes to what an undisturbed run comes to.
func TestStoppedInAnEvaluation(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, 150)
	w.write("heldout.txt", kit.Lines(2, kills(6000, 20000)))
	all := settings{"eval_data": "heldout.txt", "eval_steps": 5, "eval_on_start": false, "max_steps": 10, "save_steps": 5, "per_device_eval_batch_size": 1}
	c := &comeback{workspace: w, t: t, ranks: 2, steps: 10}
	c.config("train.yaml", all)
	c.run("--nproc", "2", "--set", "output_dir=whole", "train.yaml").want(t, 0)
	evaluated := regexp.MustCompile(` evaluation .*\bstep=`)
	for _, step := range []int64{5, 10} {
		p := c.command()
		c.reached(p, step)
		p.signal(syscall.SIGTERM)
		p.wait().want(t, 75, "asked to stop in an evaluation")
		if said := p.err.String(); step == 5 && evaluated.MatchString(said) {
			t.Errorf("the evaluation has come to its end:\n%s", said)
		}
		if _, found := c.evals("out")[step]; found {
			t.Errorf("the evaluation after step %d is recorded", step)
		}
		if newest := c.newestCheckpoint(); newest != step {
			t.Errorf("stopped in the evaluation after step %d, the newest checkpoint is of step %d", step, newest)
		}
	}
	c.command().wait().want(t, 0)
	c.same()
}

// A run that is asked to stop in its set-up, while its ranks wait for one that is not ready, ends with that; the same command begins anew, or goes on from where the run was.
func TestStoppedInTheSetUp(t *testing.T) {
	t.Parallel()
	c := newComeback(t, 7, 2, settings{"max_steps": 20, "save_steps": 1000})
	c.steps = 20
	stopInSetUp := func(from int64) {
		t.Helper()
		p := c.command("--debug-rank", "1") // which waits until a debugger comes
		if !p.until("rank 1's word", func() bool {
			return regexp.MustCompile(`rank 1 waits for a debugger: gdb -p \d+, or dlv`).MatchString(p.err.String())
		}) {
			t.Fatal("it has ended")
		}
		p.signal(syscall.SIGTERM)
		p.wait().want(t, 75, "asked to stop before the first step")
		if newest := c.newestCheckpoint(); newest != from {
			t.Errorf("the newest checkpoint is of step %d, want %d", newest, from)
		}
	}
	stopInSetUp(0)
	p := c.command()
	c.reached(p, 5)
	p.signal(syscall.SIGTERM)
	p.wait().want(t, 75)
	stopInSetUp(c.newestCheckpoint())
	c.command().wait().want(t, 0)
	c.same()
}
