package config

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// derived begins the source of a default that follows from another key.
const derived = "default, from "

// settle fills in the defaults that follow from other keys, and says so in sources.
func (c *Config) settle(given func(key string) bool, sources map[string]string) {
	follow := func(key, from string, set func()) {
		if !given(key) {
			set()
			sources[key] = derived + from
		}
	}
	follow("shards_dir", "output_dir", func() { c.ShardsDir = filepath.Join(c.OutputDir, ".ddprun", "shards") })
	follow("data_seed", "seed", func() { c.DataSeed = c.Seed })
	follow("eval_strategy", "eval_data", func() {
		c.EvalStrategy = "no"
		if len(c.EvalData) > 0 {
			c.EvalStrategy = "steps"
		}
	})
	follow("eval_on_start", "eval_strategy", func() { c.EvalOnStart = c.EvalStrategy == "steps" })
	follow("eval_steps", "save_steps", func() { c.EvalSteps = c.SaveSteps })
}

// problem is what is wrong with the value of a key.
type problem struct{ key, text string }

func (p problem) Error() string { return p.key + ": " + p.text }

// Validate checks required keys, ranges and combinations. Its error holds every problem, one a line, each beginning with
// its key. Load and Decode have called it already.
func (c *Config) Validate() error {
	var errs []error
	for _, p := range c.problems() {
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

func (c *Config) problems() []problem {
	k := &checker{}
	c.checkRequired(k)
	c.checkEnums(k)
	c.checkRanges(k)
	c.checkCombinations(k)
	return k.problems
}

type checker struct{ problems []problem }

// want notes a problem unless ok.
func (k *checker) want(ok bool, key, format string, args ...any) {
	if !ok {
		k.problems = append(k.problems, problem{key, fmt.Sprintf(format, args...)})
	}
}

var setName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

func (c *Config) checkRequired(k *checker) {
	k.want(c.Model != "", "model", "is required: the directory of a pretrained model")
	k.want(c.OutputDir != "", "output_dir", "is required: the directory for checkpoints, logs and the final model")
	k.want(len(c.Data) > 0, "data", "is required: the text files to train on")
	k.want(!slices.Contains(c.Data, ""), "data", "holds an empty path")
	seen := map[string]bool{}
	for _, set := range c.EvalData {
		key := "eval_data"
		if set.Name != "" || len(c.EvalData) > 1 {
			key += "." + set.Name
			k.want(setName.MatchString(set.Name), "eval_data", "the set name %q may hold letters, digits, _, . and - only", set.Name)
			k.want(!seen[set.Name], "eval_data", "two sets have the name %q", set.Name)
		}
		seen[set.Name] = true
		k.want(len(set.Paths) > 0 && !slices.Contains(set.Paths, ""), "eval_data", "%s holds an empty path or none", key)
	}
	for _, path := range []struct{ key, text string }{{"model", c.Model}, {"output_dir", c.OutputDir},
		{"data", strings.Join(c.Data, "")}, {"eval_data", fmt.Sprint(c.EvalData)}, {"shards_dir", c.ShardsDir},
		{"resume_from_checkpoint", c.ResumeFromCheckpoint}} {
		k.want(!strings.ContainsRune(path.text, 0), path.key, "holds a NUL character, which no path has")
		k.want(utf8.ValidString(path.text), path.key, "is not UTF-8 text, so checkpoints could not record it; rename or link the file")
	}
}

func (c *Config) checkEnums(k *checker) {
	value := reflect.ValueOf(c).Elem()
	for _, f := range fields {
		if f.enum == nil {
			continue
		}
		if got := value.Field(f.index).String(); !slices.Contains(f.enum, got) {
			hint := ""
			if got == "epoch" || got == "best" {
				hint = " (by epochs is not available yet)"
			}
			k.want(false, f.key, "want one of %s; got %q%s", strings.Join(slices.DeleteFunc(slices.Clone(f.enum),
				func(s string) bool { return s == "" }), ", "), got, hint)
		}
	}
}

func (c *Config) checkRanges(k *checker) {
	count := func(key string, value int64, least int64) {
		k.want(value >= least, key, "must be at least %d, got %d", least, value)
	}
	size := func(key string, value int, least int64) {
		count(key, int64(value), least)
		k.want(value <= maxBatch, key, "must be at most %d, got %d", maxBatch, value)
	}
	real := func(key string, value float64, ok bool, must string) {
		k.want(ok && !math.IsNaN(value) && !math.IsInf(value, 0), key, "must be %s, got %v", must, value)
	}
	share := func(key string, value float64) {
		real(key, value, value >= 0 && value <= 1, "between 0 and 1")
	}
	interval := func(key string, value float64) {
		whole := value < 1 || value == math.Trunc(value) && value <= maxSteps
		real(key, value, value > 0 && whole, "a whole number of steps, or a share of all steps above 0 and below 1")
	}
	real("mlm_probability", c.MLMProbability, c.MLMProbability > 0 && c.MLMProbability <= 1, "above 0 and at most 1")
	share("mask_replace_prob", c.MaskReplaceProb)
	share("random_replace_prob", c.RandomReplaceProb)
	size("max_seq_length", c.MaxSeqLength, 0)
	size("per_device_train_batch_size", c.PerDeviceTrainBatchSize, 1)
	size("per_device_eval_batch_size", c.PerDeviceEvalBatchSize, 1)
	size("global_batch_size", c.GlobalBatchSize, 0)
	size("gradient_accumulation_steps", c.GradientAccumulationSteps, 1)
	real("num_train_epochs", c.NumTrainEpochs, c.NumTrainEpochs >= 0 && c.NumTrainEpochs <= 1e6, "between 0 and 1000000")
	k.want(c.MaxSteps == -1 || c.MaxSteps > 0 && c.MaxSteps <= maxSteps, "max_steps",
		"must be above 0 (at most %d), or -1 for num_train_epochs, got %d", int64(maxSteps), c.MaxSteps)
	real("learning_rate", c.LearningRate, c.LearningRate >= 0, "at least 0")
	warm := c.WarmupSteps < 1 || c.WarmupSteps == math.Trunc(c.WarmupSteps) && c.WarmupSteps <= maxSteps
	real("warmup_steps", c.WarmupSteps, c.WarmupSteps >= 0 && warm, "a whole number of steps, or a share of all steps below 1")
	real("weight_decay", c.WeightDecay, c.WeightDecay >= 0, "at least 0")
	real("adam_beta1", c.AdamBeta1, c.AdamBeta1 >= 0 && c.AdamBeta1 < 1, "at least 0 and below 1")
	real("adam_beta2", c.AdamBeta2, c.AdamBeta2 >= 0 && c.AdamBeta2 < 1, "at least 0 and below 1")
	real("adam_epsilon", c.AdamEpsilon, c.AdamEpsilon >= 0, "at least 0")
	real("max_grad_norm", c.MaxGradNorm, c.MaxGradNorm >= 0, "at least 0 (0: no clipping)")
	count("max_nonfinite_steps", int64(c.MaxNonfiniteSteps), 1)
	count("seed", c.Seed, 0)
	count("data_seed", c.DataSeed, 0)
	count("eval_seed", c.EvalSeed, 0)
	interval("eval_steps", c.EvalSteps)
	interval("logging_steps", c.LoggingSteps)
	interval("save_steps", c.SaveSteps)
	count("save_total_limit", int64(c.SaveTotalLimit), 0)
	count("threads_per_rank", int64(c.ThreadsPerRank), 0)
	count("ddp_timeout", int64(c.DDPTimeoutSeconds), 1)
	k.want(c.DDPTimeoutSeconds <= maxTimeoutSeconds, "ddp_timeout", "must be at most %d seconds, got %d", maxTimeoutSeconds, c.DDPTimeoutSeconds)
	count("ddp_bucket_cap_mb", int64(c.DDPBucketCapMiB), 1)
	real("lr_scheduler_kwargs", c.LRSchedulerKwargs.NumCycles, c.LRSchedulerKwargs.NumCycles >= 0, "a map whose num_cycles is at least 0")
	real("lr_scheduler_kwargs", c.LRSchedulerKwargs.MinLRRatio,
		c.LRSchedulerKwargs.MinLRRatio >= 0 && c.LRSchedulerKwargs.MinLRRatio <= 1, "a map whose min_lr_ratio is between 0 and 1")
	k.want(c.LRSchedulerKwargs.NumDecaySteps >= 0, "lr_scheduler_kwargs", "num_decay_steps must be at least 0, got %d", c.LRSchedulerKwargs.NumDecaySteps)
}

// Bounds that no run comes near, which keep products and durations from overflowing.
const (
	maxSteps          = 1 << 40
	maxBatch          = 1 << 30
	maxTimeoutSeconds = 365 * 24 * 3600
)

func (c *Config) checkCombinations(k *checker) {
	k.want(c.MaskReplaceProb > 1 || c.RandomReplaceProb > 1 || c.MaskReplaceProb+c.RandomReplaceProb <= 1+1e-9, "mask_replace_prob",
		"mask_replace_prob + random_replace_prob must be at most 1, got %v + %v", c.MaskReplaceProb, c.RandomReplaceProb)
	k.want(c.SampleUnit != "sentence" || c.SentenceUnit != "", "sample_unit",
		"sentence needs sentence_unit to say where sentences end: line or auto")
	if b := c.PerDeviceTrainBatchSize; c.GlobalBatchSize > 0 && b > 0 {
		k.want(c.GlobalBatchSize%b == 0, "global_batch_size", "%d is not a multiple of per_device_train_batch_size %d", c.GlobalBatchSize, b)
		k.want(c.GradientAccumulationSteps <= 1, "global_batch_size",
			"fixes the accumulation already; remove global_batch_size or gradient_accumulation_steps %d", c.GradientAccumulationSteps)
	}
	k.want(c.MaxSteps != -1 || c.NumTrainEpochs > 0, "num_train_epochs", "must be above 0 where max_steps is not given")
	k.want(c.EvalStrategy != "steps" || len(c.EvalData) > 0, "eval_strategy", "steps needs eval_data")
	k.want(!c.EvalOnStart || len(c.EvalData) > 0, "eval_on_start", "true needs eval_data")
	k.want(c.Backend != "nccl" || c.Device != "cpu", "backend", "nccl moves data between GPUs, but device is cpu; use gloo or auto")
	c.checkSchedule(k)
	c.checkResume(k)
}

// checkSchedule refuses details that the schedule would not use.
func (c *Config) checkSchedule(k *checker) {
	const key = "lr_scheduler_kwargs"
	kwargs, standard := c.LRSchedulerKwargs, Default().LRSchedulerKwargs
	wsd := c.LRSchedulerType == "warmup_stable_decay"
	k.want(!wsd || kwargs.NumDecaySteps > 0, key, "lr_scheduler_type warmup_stable_decay needs num_decay_steps, at least 1")
	k.want(wsd || kwargs.NumDecaySteps == 0 && kwargs.MinLRRatio == 0, key,
		"num_decay_steps and min_lr_ratio are of warmup_stable_decay, but lr_scheduler_type is %s", c.LRSchedulerType)
	k.want(wsd || c.LRSchedulerType == "cosine" || kwargs.NumCycles == standard.NumCycles, key,
		"num_cycles is of cosine and warmup_stable_decay, but lr_scheduler_type is %s", c.LRSchedulerType)
	k.want(c.LRSchedulerType != "constant" || c.WarmupSteps == 0, "warmup_steps",
		"lr_scheduler_type constant has no warm-up; use constant_with_warmup")
}

func (c *Config) checkResume(k *checker) {
	k.want(c.ResumeFromCheckpoint != "", "resume_from_checkpoint", "want auto, none or a checkpoint's directory, got an empty text")
	if c.OverwriteOutputDir && c.ResumeFromCheckpoint != "auto" && c.ResumeFromCheckpoint != "none" {
		k.want(false, "overwrite_output_dir", "true starts anew, but resume_from_checkpoint names %q; keep one", c.ResumeFromCheckpoint)
	}
}
