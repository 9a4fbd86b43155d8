package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// comeback is a run that is interrupted and started again by the same command until it ends, beside one that is not interrupted.
type comeback struct {
	*workspace
	t      *testing.T
	ranks  int
	steps  int64
	rand   *rand.Rand
	inSave int // kills that came in a save
}

// newComeback runs the uninterrupted run, of several epochs with an evaluation on the way.
func newComeback(t *testing.T, seed uint64, ranks int, changes settings) *comeback {
	t.Helper()
	c := &comeback{workspace: newWorkspace(t, 150), t: t, ranks: ranks, steps: int64(kills(120, 600)), rand: rand.New(rand.NewPCG(seed, 1))}
	all := settings{"seed": seed, "max_steps": c.steps, "save_steps": 3, "save_total_limit": 2, "eval_data": "heldout.txt", "eval_steps": 50}
	maps.Copy(all, changes)
	c.config("whole.yaml", all)
	c.run("--nproc", fmt.Sprint(ranks), "--set", "output_dir=whole", "whole.yaml").want(t, 0)
	c.config("train.yaml", all)
	return c
}

// command starts the run, or goes on with it.
func (c *comeback) command(args ...string) *process {
	c.t.Helper()
	return c.start(append(args, "--nproc", fmt.Sprint(c.ranks), "train.yaml")...)
}

// reached waits until the process has done a step; false: it has ended before.
func (c *comeback) reached(p *process, step int64) bool {
	c.t.Helper()
	mark := regexp.MustCompile(fmt.Sprintf(` train .*\bstep=%d\b`, step))
	return p.until(mark.String(), func() bool { return mark.MatchString(p.err.String()) })
}

// same compares all that the run has left with the uninterrupted one's: the final weights, the last checkpoint's moments, and the
// metrics, which have each step once.
func (c *comeback) same() {
	c.t.Helper()
	for _, name := range []string{"model.safetensors", fmt.Sprintf("checkpoint-%d/optimizer.safetensors", c.steps)} {
		if c.read("out/"+name) != c.read("whole/"+name) {
			c.t.Errorf("%s is not that of the uninterrupted run", name)
		}
	}
	sameSteps(c.t, c.workspace.steps("whole", c.steps), c.workspace.steps("out", c.steps))
	want, got := c.evals("whole"), c.evals("out")
	for step, loss := range want {
		if got[step] != loss {
			c.t.Errorf("evaluation after step %d: %v, want %v", step, got[step], loss)
		}
	}
	if scraps, _ := filepath.Glob(c.path("out/.ddprun/*-g*")); len(scraps) > 0 {
		c.t.Errorf("half-written files are left: %q", scraps)
	}
}

// kills returns how often a test kills: few times, or many in the long tier.
func kills(few, many int) int {
	if long {
		return many
	}
	return few
}

// A worker, or the agent, is killed at random steps; the same command goes on.
func TestKilledAtAnyStep(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			c := newComeback(t, seed, int(1+seed%2), nil)
			for range kills(4, 25) {
				p := c.command()
				if c.rand.IntN(4) > 0 { // else in the set-up
					c.reached(p, c.newestCheckpoint()+1+c.rand.Int64N(c.steps/4))
				}
				time.Sleep(time.Duration(c.rand.IntN(300)) * time.Millisecond)
				if c.rand.IntN(2) == 0 {
					p.killWorker(c.rand.IntN(c.ranks))
				} else {
					p.signal(syscall.SIGKILL)
				}
				p.wait()
			}
			c.command().wait().want(t, 0)
			c.same()
		})
	}
}

// Rank 0 is killed while it writes a checkpoint.
func TestKilledInASave(t *testing.T) {
	t.Parallel()
	c := newComeback(t, 3, 2, nil)
	for range kills(3, 25) {
		p := c.command()
		c.reached(p, c.newestCheckpoint()+1)
		pid := p.worker(0)
		var saving []string
		if !p.until("a save", func() bool {
			saving, _ = filepath.Glob(c.path("out/.ddprun/save-g*-checkpoint-*"))
			return len(saving) > 0
		}) {
			break // the run is at its end
		}
		time.Sleep(time.Duration(c.rand.IntN(2000)) * time.Microsecond)
		syscall.Kill(pid, syscall.SIGKILL)
		p.wait().want(t, 1)
		if left, _ := filepath.Glob(c.path("out/.ddprun/save-g*-checkpoint-*")); len(left) > 0 {
			c.inSave++
		}
	}
	t.Logf("%d kills came in a save", c.inSave)
	if c.inSave == 0 {
		t.Error("no kill came in a save")
	}
	c.command().wait().want(t, 0)
	c.same()
}

// The agent starts its workers again by itself.
func TestRestartedByTheAgent(t *testing.T) {
	t.Parallel()
	c := newComeback(t, 4, 2, nil)
	p := c.command("--max-restarts", "2")
	for _, step := range []int64{30 + c.rand.Int64N(20), 80 + c.rand.Int64N(20)} {
		if !c.reached(p, step) || !p.killWorker(c.rand.IntN(c.ranks)) {
			t.Fatalf("no worker to kill at step %d", step)
		}
	}
	p.wait().want(t, 0, "starting the workers again")
	c.same()
}

// A rank that is stopped (SIGSTOP) is noticed though its process is there, and all start again.
func TestAStoppedRankIsStartedAgain(t *testing.T) {
	t.Parallel()
	c := newComeback(t, 6, 2, nil)
	p := c.command("--max-restarts", "1")
	rank := c.rand.IntN(c.ranks)
	if !c.reached(p, 20+c.rand.Int64N(50)) {
		t.Fatal("it has ended")
	}
	if err := syscall.Kill(p.worker(rank), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.wait().want(t, 0, fmt.Sprintf("rank %d (", rank), "it was stopped by a signal", "starting the workers again")
	c.same()
}

// A signal stops the run with a checkpoint of the step that it has come to, exit code 75; the same command goes on.
func TestStoppedWithACheckpoint(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGUSR1} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			c := newComeback(t, 5, 2, settings{"save_steps": 1000})
			for range kills(2, 10) {
				p := c.command()
				stopAt := c.newestCheckpoint() + 1 + c.rand.Int64N(c.steps/int64(kills(4, 15)))
				c.reached(p, stopAt)
				p.signal(signal)
				p.wait().want(t, 75)
				if newest := c.newestCheckpoint(); newest < stopAt {
					t.Errorf("stopped after step %d, the newest checkpoint is of step %d", stopAt, newest)
				}
			}
			c.command().wait().want(t, 0)
			c.same()
		})
	}
}

func (c *comeback) newestCheckpoint() (newest int64) {
	found, _ := filepath.Glob(c.path("out/checkpoint-*"))
	for _, path := range found {
		var step int64
		fmt.Sscanf(filepath.Base(path), "checkpoint-%d", &step)
		newest = max(newest, step)
	}
	return newest
}
