package train

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/torch"
)

// asOnAGPU has tensors take the way of those on a GPU for the rest of the test.
func asOnAGPU(t testing.TB) {
	torch.Pretend(true)
	t.Cleanup(func() { torch.Pretend(false) })
}

// recordsOf are the records of a finished run.
func recordsOf(t testing.TB, outputDir string) (records []map[string]any) {
	t.Helper()
	for line := range strings.Lines(read(t, filepath.Join(outputDir, "metrics.jsonl"))) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		records = append(records, record)
	}
	return records
}

// largestDifference compares numbers of the records of two runs, relative to the second's.
func largestDifference(t testing.TB, got, want []map[string]any, keys ...string) (worst float64) {
	t.Helper()
	compared := 0
	for i, w := range want {
		for _, key := range keys {
			y, found := w[key].(float64)
			if !found {
				continue
			}
			x, _ := got[i][key].(float64)
			worst = max(worst, math.Abs(x/y-1))
			compared++
		}
	}
	if len(got) != len(want) || compared < 3 {
		t.Fatalf("%d records beside %d, %d numbers compared", len(got), len(want), compared)
	}
	return worst
}

// The way of a GPU is the CPU's but for rounding: losses, norms, evaluations and weights, for each kind of model, with dropout; and how often the loop looks changes nothing.
func TestTheWayOfAGPU(t *testing.T) {
	for _, c := range []struct{ model, objective string }{{"bert-gelu", "mlm"}, {"bert-mlm-nsp", "mlm+nsp"}, {"t5-v1.1", "span_corruption"}, {"t5-v1.1", "reconstruction"}} {
		t.Run(c.model+" "+c.objective, func(t *testing.T) {
			train := func(sets ...string) (*Job, []map[string]any) {
				job := newJob(t, settings(t, "../model/testdata/"+c.model, append([]string{"objective=" + c.objective, "save_strategy=steps", "save_steps=4", "learning_rate=1e-3",
					"warmup_steps=2", "weight_decay=0.01", "eval_data=held.txt", "eval_steps=5", "per_device_train_batch_size=2", "global_batch_size=4"}, sets...)...), 33)
				job.Eval = []EvalSet{{Samples: job.Train}}
				before := torch.Live()
				run(t, job)
				if live := torch.Live(); live != before {
					t.Errorf("%d tensors outlive the run", live-before)
				}
				return job, recordsOf(t, job.Config.OutputDir)
			}
			_, want := train()
			asOnAGPU(t)
			job, got := train()
			worst, first := largestDifference(t, got, want, "loss", "grad_norm", "eval_loss"), largestDifference(t, got[:3], want[:3], "loss", "grad_norm", "eval_loss")
			t.Logf("the largest relative difference of losses and norms is %.2g, at first %.2g", worst, first)
			if !(worst <= 2e-4) || !(first <= 2e-5) {
				t.Errorf("losses and norms differ by %.2g, at first by %.2g", worst, first)
			}
			weights := read(t, filepath.Join(job.Config.OutputDir, "model.safetensors"))
			seldom, records := train("logging_steps=100")
			if read(t, filepath.Join(seldom.Config.OutputDir, "model.safetensors")) != weights {
				t.Error("with logging_steps 100 the weights are others")
			}
			sum, steps := 0.0, 0.0
			for _, r := range got {
				if loss, found := r["loss"].(float64); found {
					sum, steps = sum+loss, steps+1
				}
			}
			for _, r := range records {
				if loss, found := r["loss"].(float64); found && math.Abs(loss-sum/steps) > 1e-12*loss {
					t.Errorf("the loss of all %v steps is %v, that of each in the mean %v", steps, loss, sum/steps)
				}
			}
			half := *job.Config
			half.OutputDir, half.ResumeFromCheckpoint = filepath.Join(t.TempDir(), "out"), filepath.Join(job.Config.OutputDir, "checkpoint-4")
			resumed := newJob(t, &half, 33)
			resumed.Eval = []EvalSet{{Samples: resumed.Train}}
			run(t, resumed)
			if read(t, filepath.Join(half.OutputDir, "model.safetensors")) != weights {
				t.Error("resumed after 4 steps, the run ends elsewhere")
			}
		})
	}
}

// started is a rank in the midst of its run, whose feed is close.
func started(t testing.TB, job *Job) (r *rank, p *plan, out *output, f *feed) {
	t.Helper()
	r = oneRank(t, job)
	p, err := job.newPlan(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if out, err = openOutput(t.Context(), r, p, beginning{lanes: 2}); err != nil {
		t.Fatal(err)
	}
	f = startFeed(t.Context(), job, p, r.host, 0)
	t.Cleanup(func() {
		f.close()
		if err := out.close(); err != nil {
			t.Error(err)
		}
	})
	return r, p, out, f
}

// Between two log lines nothing waits for a GPU: of what several steps ask of libtorch, none does. What a log line asks does, which shows that the count counts.
// All that is asked is in a list that a test of internal/torch holds against libtorch's CUDA half.
func TestNothingWaitsBetweenLogLines(t *testing.T) {
	known := strings.Fields(read(t, "../model/testdata/composed_operations.txt"))
	known = append(known, "aten::detach") // a view, on whatever device
	for _, c := range []struct{ model, objective, more string }{{"bert-gelu", "mlm", "bf16=false"}, {"bert-gelu", "mlm", "bf16=true"}, {"bert-gelu", "mlm", "gradient_checkpointing=true"},
		{"bert-mlm-nsp", "mlm+nsp", "max_grad_norm=0"}, {"t5-v1.1", "span_corruption", "bf16=false"}, {"t5-v1.1", "reconstruction", "label_smoothing_factor=0.1"}} {
		t.Run(c.model+" "+c.objective+" "+c.more, func(t *testing.T) {
			runtime.LockOSThread() // a trace is a thread's
			defer runtime.UnlockOSThread()
			asOnAGPU(t)
			defer torch.SetBF16(false)
			job := newJob(t, settings(t, "../model/testdata/"+c.model, "objective="+c.objective, c.more, "logging_steps=100", "max_steps=20"), 33)
			r, p, out, f := started(t, job)
			step := int64(0)
			advance := func() {
				if stop, err := r.advance(context.Background(), p, out, f, step); stop || err != nil {
					t.Fatal(stop, err)
				}
				step++
			}
			advance() // the first tells the optimizer how many steps came before
			trace := torch.Trace(func() {
				for range 7 {
					advance()
				}
			})
			for _, name := range trace {
				if !slices.Contains(known, name) {
					t.Errorf("%s is asked for, and not in the list", name)
				}
			}
			if found := torch.Waits(trace); len(found) > 0 || !slices.Contains(trace, "aten::_fused_adamw_") {
				t.Errorf("of %d operations these wait: %q", len(trace), found)
			}
			if len(out.steps) != 8 {
				t.Errorf("of 8 steps %d are told of", 8-len(out.steps))
			}
			trace = torch.Trace(func() {
				if err := out.logStep(step); err != nil {
					t.Fatal(err)
				}
			})
			if found := torch.Waits(trace); len(found) == 0 || len(out.steps) != 0 {
				t.Errorf("a log line waits for nothing (%q), %d steps are not told of", trace, len(out.steps))
			}
		})
	}
}

// However late the loop learns that nothing is finite any more, the weights are those before the first such step, and the run ends with the step at which the CPU's would.
func TestTheEndIsExactHoweverLate(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint(late), func(t *testing.T) {
			if late {
				asOnAGPU(t)
			}
			job := newJob(t, settings(t, goldenModel, "logging_steps=100", "max_steps=20", "max_nonfinite_steps=3", "sample_log=true"), 33)
			r, p, out, f := started(t, job)
			weights := func() (all []float32) {
				for _, s := range r.params.Copy(nil) {
					all = append(append(append(all, s.Value...), s.ExpAvg...), s.ExpAvgSq...)
				}
				return all
			}
			var before []float32
			poison := func(x float32) (was float32) {
				err := r.params.Fill(func(s ddp.State) error {
					if s.Name == "bert.encoder.layer.0.output.dense.weight" {
						was, s.Value[3] = s.Value[3], x
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				return was
			}
			nan := float32(math.NaN())
			was := float32(0)
			var failed error
			for step := int64(0); step < 12 && failed == nil; step++ {
				switch step {
				case 2: // two that are skipped, one that is not, and then none any more
					was = poison(nan)
				case 4:
					poison(was)
				case 5:
					before = weights()
					was = poison(nan)
				}
				_, failed = r.advance(context.Background(), p, out, f, step)
			}
			if late {
				if failed != nil {
					t.Fatal(failed)
				}
				failed = out.logStep(12)
			}
			wantKind(t, failed, ErrPermanent, "step 8: the gradient is not finite for the 3. time in a row, first in bert.", "max_nonfinite_steps is 3")
			poison(was)
			if !slices.Equal(weights(), before) {
				t.Error("the weights or moments have changed after the first step that is not finite")
			}
			told := read(t, filepath.Join(job.Config.OutputDir, "samples", "rank-0.jsonl"))
			if n := strings.Count(told, `"skipped":true`); n != 2*4 { // two lanes; the step that ends the run is not told of
				t.Errorf("%d lines of skipped samples\n%s", n, told)
			}
		})
	}
}

// A checkpoint counts the steps that AdamW has done, not those that were skipped.
func TestLateStepsAreCounted(t *testing.T) {
	asOnAGPU(t)
	job := newJob(t, settings(t, goldenModel, "logging_steps=100", "max_steps=20", "save_strategy=steps"), 33)
	r, p, out, f := started(t, job)
	for step := range int64(5) {
		if _, err := r.advance(context.Background(), p, out, f, step); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.save(5); err != nil {
		t.Fatal(err)
	}
	if r.opt.Steps() != 5 {
		t.Errorf("the optimizer has done %d steps of 5", r.opt.Steps())
	}
	if err := out.saver.writer.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(job.Config.OutputDir, "checkpoint-5")); err != nil {
		t.Error(err)
	}
}
