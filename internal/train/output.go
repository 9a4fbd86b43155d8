package train

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/torch"
)

// output is what a run tells and keeps: log lines, metrics.jsonl and checkpoints. Every rank has one, since sums over ranks are made
// in it; only rank 0 writes.
type output struct {
	r       *rank
	plan    *plan
	ctx     context.Context
	metrics *metricsFile // rank 0
	saver   *saver       // rank 0
	samples *sampleLog
	history []map[string]any
	slow    *stragglers // rank 0 of several
	began   time.Time
	tokens  int64 // since the run's first start, over all ranks

	steps    []toldStep // that are not told of yet, the oldest first
	interval interval
}

// interval is what has gathered since the last log line.
type interval struct {
	steps, skipped              int64
	losses                      []float64 // this rank's share of each term, over the steps that were not skipped
	occurred                    []int64   // of those, how many had the term
	gradNorm, learningRate      float64   // of the last step
	tokens                      int64     // over all ranks
	elapsed, waitComm, waitData time.Duration
	waitRanks                   time.Duration // waitComm, and what of waitData other ranks cause
	first                       time.Duration // to the first full bucket
}

func openOutput(ctx context.Context, r *rank, p *plan, start beginning) (*output, error) {
	out := &output{r: r, plan: p, ctx: ctx, began: time.Now()}
	var err error
	if out.samples, err = openSampleLog(r, start.step); err != nil {
		return nil, err
	}
	if r.job.Rank != 0 {
		return out, nil
	}
	out.history = start.history()
	if start.checkpoint != nil {
		out.tokens = start.checkpoint.Trainer.NumInputTokensSeen
	}
	out.metrics, err = openMetrics(r.job, start.step)
	if err != nil {
		return nil, markWrite(err)
	}
	if r.job.World > 1 {
		out.slow = newStragglers(lanesOfRanks(p.lanes, r.job.World), r.job.rankName, r.job.Log)
	}
	r.job.tell(map[string]any{"step": start.step, "epoch": p.epochs(start.step), "total_steps": p.total})
	out.saver = newSaver(ctx, r, p, start.step)
	for _, s := range r.job.Train.Streams() {
		if len(r.job.Config.Data) > 1 || s.Samples != s.Epoch {
			r.job.Log.Info().Str("stream", s.Name).Int64("samples", s.Samples).Int64("samples_per_epoch", s.Epoch).Msg("data")
		}
	}
	r.job.Log.Info().Int64("samples", r.job.Train.Len()).Int64("steps", p.total).Int64("steps_per_epoch", p.stepsPerEpoch).
		Int("ranks", r.job.World).Int("lanes", p.lanes).Int("batch", r.job.Config.PerDeviceTrainBatchSize).
		Int("threads", r.job.Threads).Msg("training")
	return out, nil
}

// add takes in what a step has come to.
func (i *interval) add(s *toldStep) {
	i.gradNorm = s.gradNorm
	if s.skipped {
		i.skipped++
		return
	}
	if i.losses == nil {
		i.losses, i.occurred = make([]float64, len(s.losses)), make([]int64, len(s.losses))
	}
	for k, x := range s.losses {
		i.losses[k] += x
		if s.counts[k] > 0 {
			i.occurred[k]++
		}
	}
}

// count adds a step; elapsed is the step's time with its wait for data. What it has come to is told by settle.
func (o *output) count(s stepOutcome, in *stepInput, waitData, elapsed time.Duration, learningRate float64) {
	told := toldStep{stepOutcome: s, step: in.step + 1, counts: in.counts}
	if o.samples != nil {
		told.samples = copySamples(in.samples)
	}
	o.steps = append(o.steps, told)
	i := &o.interval
	i.steps++
	i.learningRate = learningRate
	i.tokens += in.tokens
	i.elapsed += elapsed
	i.waitComm += s.waited
	i.waitData += waitData
	i.waitRanks += s.waited + min(waitData, in.summed)
	i.first += s.first
	o.tokens += in.tokens
}

// logStep reports the interval that ends at step. It sums over ranks, so every rank calls it.
func (o *output) logStep(step int64) error {
	if err := o.settle(true); err != nil {
		return err
	}
	i := o.interval
	o.interval = interval{}
	terms := o.r.job.terms()
	waits := len(terms)
	sums := make([]float64, waits+2+figureCount*o.r.job.World) // the end: each rank's figures, which the others leave 0
	copy(sums, i.losses)
	sums[waits], sums[waits+1] = i.waitComm.Seconds(), i.waitData.Seconds()
	figures{i.elapsed.Seconds(), i.waitRanks.Seconds(), i.first.Seconds()}.put(sums[waits+2+figureCount*o.r.job.Rank:])
	o.r.job.Activity.set(sumMetrics)
	if err := ddp.SumFloat64s(o.r.sums, sums); err != nil {
		return mark(ErrPeer, err)
	}
	if o.r.job.Rank != 0 {
		return nil
	}
	seconds := i.elapsed.Seconds()
	loss := math.NaN() // of an interval of skipped steps
	if i.losses != nil {
		loss = 0
		for k, term := range terms {
			loss += term.weight * sums[k] / float64(i.steps-i.skipped)
			sums[k] /= float64(i.occurred[k])
		}
	}
	ranks := float64(o.r.job.World)
	rate := float64(i.tokens) / seconds
	waitComm, waitData := sums[waits]/ranks/seconds, sums[waits+1]/ranks/seconds
	line := o.r.job.Log.Info().Int64("step", step).Str("epoch", fmt.Sprintf("%.2f", o.plan.epochs(step))).Str("loss", fmt.Sprintf("%.4f", loss))
	entry := map[string]any{}
	if len(terms) > 1 {
		for k, term := range terms {
			if i.losses == nil || i.occurred[k] == 0 {
				continue // no sample drew the objective
			}
			line = line.Str(term.name+"_loss", fmt.Sprintf("%.4f", sums[k]))
			entry[term.name+"_loss"] = sums[k]
		}
	}
	line = line.Str("lr", fmt.Sprintf("%.3g", i.learningRate)).Str("grad_norm", fmt.Sprintf("%.3g", i.gradNorm)).Int64("tokens/s", int64(rate))
	if !torch.Composed() { // else it is the GPU that waits, which nobody measures
		line = line.Str("wait_comm", percent(waitComm))
		entry["communication_wait_share"] = waitComm
		o.compareRanks(i.steps, sums[waits+2:], entry)
	}
	line.Str("wait_data", percent(waitData)).Msg("train")
	maps.Copy(entry, map[string]any{"step": step, "epoch": o.plan.epochs(step), "loss": loss, "learning_rate": i.learningRate,
		"grad_norm": i.gradNorm, "tokens_per_second": rate, "seconds_per_step": seconds / float64(i.steps), "skipped_steps": i.skipped,
		"data_wait_share": waitData, "num_input_tokens_seen": o.tokens})
	return o.record(entry)
}

// logEval reports an evaluation; the results are the same on every rank.
func (o *output) logEval(step int64, results []evalResult, took time.Duration) error {
	if o.r.job.Rank != 0 {
		return nil
	}
	for _, e := range results {
		line := o.r.job.Log.Info().Int64("step", step)
		if e.set != "" {
			line = line.Str("set", e.set)
		}
		for _, m := range e.metrics() {
			line = line.Str(m.name, fmt.Sprintf(m.format, m.value))
		}
		line.Msg("evaluation")
	}
	entry := evalEntry(results)
	maps.Copy(entry, map[string]any{"step": step, "epoch": o.plan.epochs(step), "eval_runtime": took.Seconds()})
	return o.record(entry)
}

// evalEntry is the metrics of an evaluation's record.
func evalEntry(results []evalResult) map[string]any {
	entry := map[string]any{}
	for _, e := range results {
		prefix := "eval_"
		if e.set != "" {
			prefix += e.set + "_"
		}
		for _, m := range e.metrics() {
			entry[prefix+m.name] = m.value
		}
	}
	return entry
}

// metric is a number of an evaluation and how log lines show it.
type metric struct {
	name   string
	value  float64
	format string
}

func (e evalResult) metrics() []metric {
	all := []metric{{"loss", e.loss(), "%.4f"}}
	texts := 0
	for _, term := range e.terms {
		if term.tokens {
			texts++
		}
	}
	for _, term := range e.terms {
		prefix := "" // of what only terms on tokens have
		if texts > 1 {
			prefix = term.name + "_"
		}
		if len(e.terms) > 1 {
			all = append(all, metric{term.name + "_loss", term.loss, "%.4f"})
		}
		if term.tokens {
			all = append(all, metric{prefix + "perplexity", term.perplexity(), "%.4g"})
		} else {
			all = append(all, metric{term.name + "_accuracy", term.accuracy, "%.4f"})
		}
		if d := term.decoded; d.samples > 0 {
			all = append(all, metric{prefix + "token_accuracy", d.tokenAccuracy(), "%.4f"}, metric{prefix + "exact_match", d.exactMatch(), "%.4f"})
		}
	}
	return all
}

func (o *output) record(entry map[string]any) error {
	for key, v := range entry {
		if x, ok := v.(float64); ok && (math.IsNaN(x) || math.IsInf(x, 0)) {
			entry[key] = nil // JSON has no such numbers
		}
	}
	o.r.job.tell(entry)
	o.history = append(o.history, entry)
	return mark(ErrPermanent, o.metrics.write(entry))
}

// save begins to write a checkpoint after step steps.
func (o *output) save(step int64) error {
	if o.saver == nil {
		return nil
	}
	o.r.job.Beat(PhaseCheckpoint, step, o.saved())
	o.r.job.Activity.set(saveCheckpoint)
	if err := o.settle(true); err != nil {
		return err
	}
	return markWrite(o.saver.start(step, o.tokens, slices.Clone(o.history)))
}

// saved is the step of the last complete checkpoint; on other ranks than 0 it is not known and 0.
func (o *output) saved() int64 {
	if o.saver == nil {
		return 0
	}
	return o.saver.done.Load()
}

// failed returns a failure of the save under way.
func (o *output) failed() error {
	if o.saver == nil {
		return nil
	}
	return markWrite(o.saver.writer.Err())
}

// finish writes the final model and the summary.
func (o *output) finish(step int64) error {
	if o.saver == nil {
		return nil
	}
	o.r.job.Beat(PhaseCheckpoint, step, o.saved())
	o.r.job.Activity.set(saveCheckpoint)
	if err := o.saver.takeBest(o.ctx, step); err != nil {
		return err
	}
	if err := o.saver.saveModel(o.ctx); err != nil {
		return markWrite(err)
	}
	seconds := time.Since(o.began).Seconds()
	peak := peakRSSMiB()
	o.r.job.Log.Info().Str("output_dir", o.r.job.Config.OutputDir).Int64("peak_rss_mib", peak).Msg("done: the model is saved")
	return o.record(map[string]any{"step": step, "epoch": o.plan.epochs(step), "train_runtime": seconds, "peak_rss_mib": peak,
		"num_input_tokens_seen": o.tokens, "cut_token_share": o.r.job.Train.CutShare()})
}

// close waits for the save under way.
func (o *output) close() error {
	for _, s := range o.steps { // of a run that has failed
		if s.late != nil {
			s.late.numbers.Drop()
		}
	}
	err := o.samples.close()
	if o.saver == nil {
		return err
	}
	return cmp.Or(markWrite(o.saver.writer.Close()), o.metrics.close(), err)
}

func percent(share float64) string { return fmt.Sprintf("%.1f%%", 100*share) }

// peakRSSMiB is the process's largest resident memory so far (VmHWM) in MiB; 0 where the system does not say.
func peakRSSMiB() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(status), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kb >> 10
		}
	}
	return 0
}
