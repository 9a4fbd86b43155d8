package train

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/torch"
)

// Run trains until the plan's last step, the request to stop, or a failure. It blocks; errors are of the kinds in this package.
func Run(ctx context.Context, job *Job) (Result, error) {
	result, err := train(ctx, job)
	return result, job.namePair(err)
}

func train(ctx context.Context, job *Job) (Result, error) {
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
	result, err := r.run(ctx)
	if err == nil { // nobody leaves before everybody is done
		job.Activity.set(awaitEnd)
		err = mark(ErrPeer, ddp.Barrier(r.sums))
	}
	return result, err
}

// run is the run of a rank that has met the others.
func (r *rank) run(ctx context.Context) (Result, error) {
	start, plan, err := r.prepare(ctx)
	if plan != nil {
		defer plan.close()
	}
	if errors.Is(err, ErrAskedToStop) {
		r.job.Log.Info().Int64("step", start.step).Msg("asked to stop before the first step")
		return Result{Step: start.step, Stopped: true}, nil
	} else if err != nil {
		return Result{}, err
	}
	r.best = newBest(r.job.Config, start.history(), func(step int64) bool { return plan.due(step, plan.saveSteps) })
	out, err := openOutput(ctx, r, plan, start)
	if err != nil {
		return Result{}, err
	}
	result, err := r.loop(ctx, plan, out, start)
	if e := out.close(); err == nil {
		err = e
	}
	return result, err
}

// prepare does what comes before the first step, in two parts, after each of which all ranks agree on whether to stop. The caller closes the plan, if there is one.
func (r *rank) prepare(ctx context.Context) (start beginning, p *plan, err error) {
	asked, release := UntilAsked(ctx, r.job.Stop)
	defer release()
	start, p, err = r.whereToBegin(asked)
	if err := r.agreeToStop(cutShort(asked, err)); err != nil {
		return start, p, err
	}
	err = r.setUp(asked, start)
	return start, p, r.agreeToStop(cutShort(asked, err))
}

// whereToBegin finds where the run begins and what its steps are.
func (r *rank) whereToBegin(ctx context.Context) (start beginning, p *plan, err error) {
	if ctx.Err() != nil { // there may be no samples, either
		return start, nil, context.Cause(ctx)
	}
	job := r.job
	job.Activity.set(awaitBeginning)
	if start, err = begin(ctx, job); err != nil {
		return start, nil, err
	}
	job.Beat(PhaseSetup, start.step, start.step)
	job.Activity.set(prepareRank)
	if p, err = job.newPlan(ctx, start.lanes); err != nil {
		return start, nil, mark(ErrInput, err)
	}
	return start, p, mark(ErrInput, p.checkPlan(ctx, start))
}

// loop is the run from the first step to the last.
func (r *rank) loop(ctx context.Context, p *plan, out *output, start beginning) (result Result, err error) {
	if r.beginsWithEvaluation(p, start) {
		if stopped, err := r.evaluateOrStop(ctx, out, nil, start.step); stopped || err != nil {
			return Result{Step: start.step, Stopped: stopped}, err
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
			if stopped, err := r.evaluateOrStop(ctx, out, feed, step); stopped || err != nil {
				return Result{Step: step, Stopped: stopped}, err
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

// beginsWithEvaluation tells whether an evaluation comes before the first step: eval_on_start's, or one that a request to stop has cut short.
func (r *rank) beginsWithEvaluation(p *plan, start beginning) bool {
	switch {
	case p.evalSteps == 0 || start.evaluated():
		return false
	case start.step == 0:
		return r.job.Config.EvalOnStart
	}
	return p.due(start.step, p.evalSteps)
}

// evaluateOrStop evaluates after step steps. stopped: a request to stop has cut that short on every rank, nothing is told of it, and what the steps have come to is saved; whoever goes on
// from there begins with this evaluation, which the checkpoint's records lack. feed is nil where it has not begun.
func (r *rank) evaluateOrStop(ctx context.Context, out *output, feed *feed, step int64) (stopped bool, err error) {
	if err := r.evaluateAndReport(step, out); !errors.Is(err, ErrAskedToStop) {
		return false, err
	}
	r.job.Log.Info().Int64("step", step).Msg("asked to stop in an evaluation, which is done when the run goes on: saving")
	if err := out.save(step); err != nil {
		return true, err
	}
	if feed != nil {
		return true, feed.drain(ctx, step)
	}
	return true, nil
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
