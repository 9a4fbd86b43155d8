package train

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/torch"
)

// asking is a rank's request to stop, which may come twice.
type asking struct {
	once sync.Once
	stop chan struct{}
}

func (a *asking) ask() { a.once.Do(func() { close(a.stop) }) }

// runRanks runs the ranks of a run, in groups of this process, and returns how they ended. steer may change what a rank is given.
func runRanks(t *testing.T, base *Job, ranks int, steer func(r *rank, a *asking)) ([]Result, []error) {
	t.Helper()
	store := &mapStore{values: map[string][]byte{}}
	data, host := ddp.NewLocal(ranks, nil), ddp.NewLocal(ranks, nil)
	results, errs := make([]Result, ranks), make([]error, ranks)
	var all sync.WaitGroup
	for n := range ranks {
		job, a := *base, &asking{stop: make(chan struct{})}
		job.Rank, job.World, job.Store, job.Stop = n, ranks, store, a.stop
		r := &rank{job: &job, groups: groups{data: data[n], sums: data[n], host: host[n]}}
		if steer != nil {
			steer(r, a)
		}
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			defer r.close()
			if results[n], errs[n] = r.run(t.Context()); errs[n] != nil {
				r.each(ddp.Group.Abort)
			}
		})
	}
	all.Wait()
	return results, errs
}

// ended fails the test where not every rank ended so.
func ended(t *testing.T, want Result, results []Result, errs []error) {
	t.Helper()
	for rank, err := range errs {
		if err != nil || results[rank] != want {
			t.Fatalf("rank %d ended with %+v, %v; want %+v", rank, results[rank], err, want)
		}
	}
}

// records are those of metrics.jsonl, without times.
func records(t *testing.T, dir string) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(read(t, filepath.Join(dir, "metrics.jsonl"))) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		maps.DeleteFunc(entry, func(key string, _ any) bool {
			for _, part := range []string{"second", "share", "runtime", "peak_rss", "slow", "rank"} {
				if strings.Contains(key, part) {
					return true
				}
			}
			return false
		})
		all = append(all, entry)
	}
	return all
}

// One rank is asked to stop in an evaluation: all stop there, with a checkpoint and without a record of it, and whoever goes on begins with it and comes to what an undisturbed run
// comes to.
func TestStopInAnEvaluation(t *testing.T) {
	const ranks = 3
	sets := []string{"max_steps=6", "save_strategy=steps", "save_steps=3", "eval_strategy=steps", "eval_steps=3", "eval_on_start=true", "per_device_eval_batch_size=1",
		"global_batch_size=6", "load_best_model_at_end=true", "metric_for_best_model=loss", "eval_data=heldout.txt"}
	newRun := func() *Job {
		job := newJob(t, settings(t, goldenModel, sets...), 33)
		job.Eval = []EvalSet{{Name: "a", Samples: someSamples(t, 5, 11)}, {Name: "b", Samples: someSamples(t, 6, 7)}}
		return job
	}
	whole := newRun()
	whole.Config.MetricForBestModel = "a_loss"
	results, errs := runRanks(t, whole, ranks, nil)
	ended(t, Result{Step: 6}, results, errs)
	want := records(t, whole.Config.OutputDir)
	for _, step := range []int64{0, 3, 6} {
		for asked := range ranks {
			job := newRun()
			job.Config.MetricForBestModel = "a_loss"
			before := torch.Live()
			results, errs := runRanks(t, job, ranks, func(r *rank, a *asking) {
				r.job.Beat = func(phase Phase, at, _ int64) {
					if r.job.Rank == asked && phase == PhaseEvaluate && at == step {
						a.ask() // before its first micro-batch, and it has more
					}
				}
			})
			ended(t, Result{Step: step, Stopped: true}, results, errs)
			if live := torch.Live(); live != before {
				t.Errorf("%d tensors outlive the run", live-before)
			}
			for _, entry := range records(t, job.Config.OutputDir) {
				if _, evaluated := entry["eval_a_loss"]; evaluated && entry["step"] == float64(step) {
					t.Errorf("the evaluation that was cut short is recorded: %v", entry)
				}
			}
			results, errs = runRanks(t, job, ranks, nil)
			ended(t, Result{Step: 6}, results, errs)
			if got := records(t, job.Config.OutputDir); !reflect.DeepEqual(got, want) {
				t.Errorf("rank %d was asked in the evaluation after step %d; the records are\n%v, want\n%v", asked, step, got, want)
			}
			for _, name := range []string{"model.safetensors", "checkpoint-6/optimizer.safetensors"} {
				if read(t, filepath.Join(job.Config.OutputDir, name)) != read(t, filepath.Join(whole.Config.OutputDir, name)) {
					t.Errorf("rank %d was asked in the evaluation after step %d: %s is another one", asked, step, name)
				}
			}
		}
	}
}

// afterSums calls f with the number of the all-reduce that has ended.
type afterSums struct {
	ddp.Group
	n *int
	f func(n int)
}

func (g afterSums) AllReduce(t torch.Tensor) (ddp.Work, error) {
	w, err := g.Group.AllReduce(t)
	return afterWork{w, g}, err
}

type afterWork struct {
	ddp.Work
	g afterSums
}

func (w afterWork) Wait() error {
	err := w.Work.Wait()
	*w.g.n++
	w.g.f(*w.g.n)
	return err
}

// askingStore asks its rank to stop once it waits for another.
type askingStore struct {
	torch.Store
	a *asking
}

func (s askingStore) Get(string, time.Duration) ([]byte, error) {
	s.a.ask()
	select {} // for one that never comes
}

// Ranks that are asked to stop in the set-up, wherever each of them is, all stop there: none is left waiting, nothing is written.
func TestStopInTheSetUp(t *testing.T) {
	for name, steer := range map[string]func(r *rank, a *asking){
		"one before it has samples": func(r *rank, a *asking) {
			if r.job.Rank == 1 {
				r.job.Train = nil
				a.ask()
			}
		},
		"rank 0 before it has chosen, the others while they wait for that": func(r *rank, a *asking) {
			if r.job.Rank == 0 {
				a.ask()
			} else {
				r.job.Store = askingStore{r.job.Store, a}
			}
		},
		"one when the start is chosen": func(r *rank, a *asking) {
			r.job.Beat = func(phase Phase, _, _ int64) {
				if r.job.Rank == 2 && phase == PhaseSetup {
					a.ask()
				}
			}
		},
		"one when all have agreed to load the model": func(r *rank, a *asking) {
			if r.job.Rank == 1 {
				r.sums = afterSums{r.sums, new(int), func(n int) {
					if n == 1 {
						a.ask()
					}
				}}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			job := newJob(t, settings(t, goldenModel, "max_steps=4", "save_strategy=steps", "save_steps=2", "global_batch_size=6"), 33)
			before := torch.Live()
			results, errs := runRanks(t, job, 3, steer)
			ended(t, Result{Stopped: true}, results, errs)
			if live := torch.Live(); live != before {
				t.Errorf("%d tensors outlive the run", live-before)
			}
			if entries, _ := os.ReadDir(job.Config.OutputDir); len(entries) > 0 && !onlyHidden(entries) {
				t.Errorf("%v were written", entries)
			}

			results, errs = runRanks(t, job, 3, func(r *rank, a *asking) { // a checkpoint to go on from
				r.job.Beat = func(phase Phase, step, _ int64) {
					if phase == PhaseTrain && step == 1 {
						a.ask()
					}
				}
			})
			if errs[0] != nil || !results[0].Stopped || results[0].Step < 1 {
				t.Fatalf("%+v, %v", results[0], errs[0])
			}
			step := results[0].Step
			tree := records(t, job.Config.OutputDir)
			results, errs = runRanks(t, job, 3, steer)
			for rank, err := range errs { // where nothing is chosen yet, no step is known
				if err != nil || !results[rank].Stopped || results[rank].Step != 0 && results[rank].Step != step {
					t.Errorf("rank %d: %+v, %v", rank, results[rank], err)
				}
			}
			if !reflect.DeepEqual(records(t, job.Config.OutputDir), tree) {
				t.Error("the records have changed")
			}
			results, errs = runRanks(t, job, 3, nil)
			ended(t, Result{Step: 4}, results, errs)
		})
	}
}

func onlyHidden(entries []os.DirEntry) bool {
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			return false
		}
	}
	return true
}

// A rank that fails in the set-up while others are asked to stop says what is wrong, and they are not left waiting.
func TestFailureInASetUpThatIsStopped(t *testing.T) {
	job := newJob(t, settings(t, goldenModel, "max_steps=4", "global_batch_size=6"), 33)
	_, errs := runRanks(t, job, 3, func(r *rank, a *asking) {
		if r.job.Rank == 0 {
			c := *r.job.Config
			c.Model = filepath.Join(t.TempDir(), "nothing")
			r.job.Config = &c
			return
		}
		r.sums = afterSums{r.sums, new(int), func(n int) {
			if n == 1 {
				a.ask()
			}
		}}
	})
	wantKind(t, errs[0], ErrInput, "nothing")
	for _, err := range errs[1:] {
		wantKind(t, err, ErrPeer)
	}
}

// What ends a run for another reason is that reason, also where it was asked to stop.
func TestEndInASetUpThatIsStopped(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	job := newJob(t, settings(t, goldenModel), 33)
	gone := os.ErrDeadlineExceeded
	cancel(gone)
	asked, release := UntilAsked(ctx, job.Stop)
	defer release()
	if err := cutShort(asked, context.Cause(asked)); err != gone {
		t.Errorf("the error is %v", err)
	}
}
