package train

import (
	"context"
	"runtime"
	"time"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/torch"
)

// Run trains until the plan's last step, the request to stop, or a failure. It blocks; errors are of the kinds in this package.
func Run(ctx context.Context, job *Job) (Result, error) {
	runtime.LockOSThread() // OpenMP keeps a pool of threads for each thread that it is called from
	defer runtime.UnlockOSThread()
	torch.TuneAllocator()
	job.Beat(PhaseSetup, 0, 0)
	job.Activity.set(meet)
	r := &rank{job: job}
	defer r.close()
	var err error
	if err = job.settle(); err != nil {
		return Result{}, err
	}
	if r.groups, err = formGroups(job); err != nil {
		return Result{}, err
	}
	job.Activity.set(awaitBeginning)
	start, err := begin(job)
	if err != nil {
		return Result{}, err
	}
	job.Beat(PhaseSetup, start.step, start.step)
	job.Activity.set(prepareRank)
	plan, err := job.newPlan(ctx, start.lanes)
	if err != nil {
		return Result{}, mark(ErrInput, err)
	}
	defer plan.close()
	if err := plan.checkPlan(ctx, start); err != nil {
		return Result{}, mark(ErrInput, err)
	}
	if err := r.setUp(start); err != nil {
		return Result{}, err
	}
	r.best = newBest(job.Config, start.history(), func(step int64) bool { return plan.due(step, plan.saveSteps) })
	out, err := openOutput(ctx, r, plan, start)
	if err != nil {
		return Result{}, err
	}
	result, err := r.loop(ctx, plan, out, start)
	if e := out.close(); err == nil {
		err = e
	}
	if err == nil { // nobody leaves before everybody is done
		job.Activity.set(awaitEnd)
		err = mark(ErrPeer, ddp.Barrier(r.sums))
	}
	return result, err
}

// loop is the run from the first step to the last.
func (r *rank) loop(ctx context.Context, p *plan, out *output, start beginning) (result Result, err error) {
	if r.job.Config.EvalOnStart && p.evalSteps != 0 && start.step == 0 {
		if err := r.evaluateAndReport(0, out); err != nil {
			return Result{}, err
		}
	}
	if start.step >= p.total {
		r.job.Log.Info().Int64("step", start.step).Int64("steps", p.total).Msg("every step is done already: set num_train_epochs or max_steps higher to go on")
	}
	if r.best.stop() { // early stopping has ended this run
		return Result{Step: start.step}, out.finish(start.step)
	}
	feed := startFeed(ctx, r.job, p, r.host, start.step)
	defer func() {
		if err != nil {
			r.each(ddp.Group.Abort) // the feed may wait for a peer that does not come, and the peers for this rank
		}
		feed.close()
	}()
	r.job.Beat(PhaseTrain, start.step, out.saved())
	for step := start.step; step < p.total; {
		stop, err := r.advance(ctx, p, out, feed, step)
		if err != nil {
			return Result{}, err
		}
		if stop {
			r.job.Log.Info().Int64("step", step).Msg("asked to stop: saving")
			return Result{Step: step, Stopped: true}, out.save(step)
		}
		step++
		if p.due(step, p.loggingSteps) {
			if err := out.logStep(step); err != nil {
				return Result{}, err
			}
		}
		if p.due(step, p.evalSteps) {
			if err := r.evaluateAndReport(step, out); err != nil {
				return Result{}, err
			}
		}
		if p.due(step, p.saveSteps) {
			if err := out.save(step); err != nil {
				return Result{}, err
			}
		}
		if p.due(step, p.evalSteps) || p.due(step, p.saveSteps) {
			r.job.Beat(PhaseTrain, step, out.saved()) // back from another phase
		}
		if err := out.failed(); err != nil {
			return Result{}, err
		}
		if r.best.stop() {
			return Result{Step: step}, r.stopEarly(ctx, p, out, feed, step)
		}
	}
	done := max(p.total, start.step) // a run that was made shorter has more behind it
	return Result{Step: done}, out.finish(done)
}

// advance runs the step after step steps; or tells that somebody was asked to stop. Nothing in it waits for a GPU.
func (r *rank) advance(ctx context.Context, p *plan, out *output, feed *feed, step int64) (stop bool, err error) {
	began := time.Now()
	r.job.Activity.set(awaitFeed)
	in, waited, err := feed.next(ctx)
	if err != nil || in.stop {
		return err == nil, err
	}
	lr := p.learningRate(step)
	outcome, err := r.step(in, lr)
	if err != nil {
		return false, err
	}
	r.job.Beat(PhaseTrain, step+1, out.saved())
	out.count(outcome, in, waited, time.Since(began), lr)
	feed.release(in)
	return false, out.settle(false)
}

// stopEarly ends the run after step steps, with a checkpoint from which a second start sees that it has ended.
func (r *rank) stopEarly(ctx context.Context, p *plan, out *output, feed *feed, step int64) error {
	r.job.Log.Info().Int64("step", step).Str("metric", r.best.key).Int("evaluations", r.best.behind).Msg("early stopping: the metric does not get better")
	if p.saveSteps != 0 {
		if err := out.save(step); err != nil {
			return err
		}
	}
	if err := feed.drain(ctx, step); err != nil {
		return err
	}
	return out.finish(step)
}

func (r *rank) evaluateAndReport(step int64, out *output) error {
	if err := out.settle(true); err != nil {
		return err
	}
	began := time.Now()
	results, err := r.evaluate(step, out.saved())
	if err != nil {
		return err
	}
	if err := out.logEval(step, results, time.Since(began)); err != nil {
		return err
	}
	r.best.see(step, evalEntry(results), out.plan.due(step, out.plan.saveSteps))
	return soundEvaluation(step, results)
}
