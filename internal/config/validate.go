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
	if c.Pairs() {
		follow("sample_unit", "objective", func() { c.SampleUnit = "pair" })
		follow("sentence_unit", "objective", func() { c.SentenceUnit = "auto" })
	}
	if c.Has("reconstruction") && c.SampleUnit == Default().SampleUnit {
		follow("sample_unit", "objective", func() { c.SampleUnit = "sentence" })
		if c.SampleUnit == "sentence" {
			follow("sentence_unit", "objective", func() { c.SentenceUnit = "auto" })
		}
	}
	if c.PerDeviceTrainTokens > 0 {
		follow("per_device_train_batch_size", "per_device_train_tokens", func() { c.PerDeviceTrainBatchSize = 0 })
	}
	follow("data_seed", "seed", func() { c.DataSeed = c.Seed })
	follow("eval_strategy", "eval_data", func() {
		c.EvalStrategy = "no"
		if len(c.EvalSets()) > 0 {
			c.EvalStrategy = "steps"
		}
	})
	follow("eval_on_start", "eval_strategy", func() { c.EvalOnStart = c.EvalStrategy != "no" })
	follow("eval_steps", "save_steps", func() { c.EvalSteps = c.SaveSteps })
	if c.LoadBestModelAtEnd || c.EarlyStoppingPatience > 0 {
		follow("metric_for_best_model", "load_best_model_at_end and early_stopping_patience", func() { c.MetricForBestModel = "loss" })
	}
	follow("greater_is_better", "metric_for_best_model", func() {
		c.GreaterIsBetter = c.MetricForBestModel != "" && !strings.HasSuffix(c.MetricForBestModel, "loss") && !strings.HasSuffix(c.MetricForBestModel, "perplexity")
	})
}

// Mix returns the objectives of the run, which objectives or objective names.
func (c *Config) Mix() Mixture {
	if len(c.Objectives) > 0 {
		return c.Objectives
	}
	return Mixture{{Objective: c.Objective, Weight: 1, LossWeight: 1}}
}

// Has tells whether one of the objectives is among these.
func (c *Config) Has(objectives ...string) bool {
	return slices.ContainsFunc(c.Mix(), func(m MixedObjective) bool { return slices.Contains(objectives, m.Objective) })
}

// SplitName is the name of the set that validation_split_percentage holds out, where eval_data has sets too.
const SplitName = "validation"

// EvalSets are the names of the evaluation sets: those of eval_data and, behind them, that of validation_split_percentage. The name of the only one may be empty.
func (c *Config) EvalSets() []string {
	var names []string
	for _, set := range c.EvalData {
		names = append(names, set.Name)
	}
	if c.ValidationSplitPercentage > 0 && len(names) > 0 {
		return append(names, SplitName)
	} else if c.ValidationSplitPercentage > 0 {
		return []string{""}
	}
	return names
}

// names are the objectives in words.
func (c *Config) names() string {
	var names []string
	for _, m := range c.Mix() {
		names = append(names, m.Objective)
	}
	return strings.Join(names, ", ")
}

// Kinds of objectives.
var (
	onPairs = []string{"nsp", "sop", "mlm+nsp", "mlm+sop"}  // of sentences
	ofText  = []string{"reconstruction", "span_corruption"} // of models that read one text and write another
)

// Pairs tells whether an objective is one on pairs of sentences.
func (c *Config) Pairs() bool { return c.Has(onPairs...) }

// SequenceToSequence tells whether an objective is one of models that read one text and write another.
func (c *Config) SequenceToSequence() bool { return c.Has(ofText...) }

// RandomSentences tells whether an objective wants random sentences for its pairs.
func (c *Config) RandomSentences() bool { return c.Has("nsp", "mlm+nsp") }

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
	c.checkObjectiveAndBatches(k)
	c.checkOptimizer(k)
	c.checkCourse(k)
	c.checkCombinations(k)
	return k.problems
}

var setName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

func (c *Config) checkRequired(k *checker) {
	k.want(c.Model != "", "model", "is required: the directory of a pretrained model")
	k.want(c.OutputDir != "", "output_dir", "is required: the directory for checkpoints, logs and the final model")
	c.checkData(k)
	k.want(c.TextField != "", "text_field", "is empty; it names the field that holds the text")
	k.want(c.ShardsCacheBytes >= 0, "shards_cache_bytes", "must be at least 0, got %d", c.ShardsCacheBytes)
	k.want(c.MaxDocumentBytes >= 1 && c.MaxDocumentBytes <= math.MaxUint32, "max_document_bytes", "must be at least 1 and below 2^32, got %d", c.MaxDocumentBytes)
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
	k.want(c.ValidationSplitPercentage == 0 || !seen[SplitName], "eval_data", "the set name %q is that of validation_split_percentage", SplitName)
	for _, path := range []struct{ key, text string }{{"model", c.Model}, {"output_dir", c.OutputDir},
		{"data", strings.Join(c.Data.Paths(), "")}, {"text_field", c.TextField}, {"eval_data", fmt.Sprint(c.EvalData)}, {"shards_dir", c.ShardsDir},
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
			k.want(false, f.key, "want one of %s; got %q", strings.Join(slices.DeleteFunc(slices.Clone(f.enum),
				func(s string) bool { return s == "" }), ", "), got)
		}
	}
}

func (c *Config) checkCombinations(k *checker) {
	k.want(c.MaskReplaceProb > 1 || c.RandomReplaceProb > 1 || c.MaskReplaceProb+c.RandomReplaceProb <= 1+1e-9, "mask_replace_prob",
		"mask_replace_prob + random_replace_prob must be at most 1, got %v + %v", c.MaskReplaceProb, c.RandomReplaceProb)
	k.want(c.SampleUnit != "sentence" || c.SentenceUnit != "", "sample_unit",
		"sentence needs sentence_unit to say where sentences end: line or auto")
	k.want(c.SampleUnit != "pair" || c.SentenceUnit != "", "sentence_unit",
		"sample_unit pair needs to know where sentences end: line or auto")
	k.want(!c.Pairs() || c.SampleUnit == "pair", "sample_unit", "objective %s wants pairs, got %s; leave sample_unit out", c.names(), c.SampleUnit)
	k.want(c.Pairs() || c.SampleUnit != "pair", "sample_unit", "pair is for objectives on pairs of sentences, but objective is %s", c.names())
	k.want(c.RandomSentences() || c.NSPNegatives == Default().NSPNegatives, "nsp_negatives",
		"is for objective nsp and mlm+nsp, but objective is %s", c.names())
	c.checkMixture(k)
	standard := Default()
	for _, of := range []struct {
		objective, key string
		same           bool
	}{
		{"reconstruction", "perturbation_probability", c.PerturbationProbability == standard.PerturbationProbability},
		{"reconstruction", "perturbation", c.Perturbation == standard.Perturbation},
		{"reconstruction", "word_order", c.WordOrder == standard.WordOrder},
		{"span_corruption", "noise_density", c.NoiseDensity == standard.NoiseDensity},
		{"span_corruption", "mean_noise_span_length", c.MeanNoiseSpanLength == standard.MeanNoiseSpanLength},
	} {
		k.want(of.same || c.Has(of.objective), of.key, "is for objective %s, but objective is %s", of.objective, c.names())
	}
	if b := c.PerDeviceTrainBatchSize; c.GlobalBatchSize > 0 && b > 0 {
		k.want(c.GlobalBatchSize%b == 0, "global_batch_size", "%d is not a multiple of per_device_train_batch_size %d", c.GlobalBatchSize, b)
		k.want(c.GradientAccumulationSteps <= 1, "global_batch_size",
			"fixes the accumulation already; remove global_batch_size or gradient_accumulation_steps %d", c.GradientAccumulationSteps)
	}
	if budget := c.PerDeviceTrainTokens; budget > 0 {
		k.want(c.PerDeviceTrainBatchSize == 0, "per_device_train_tokens", "a micro-batch has either so many tokens or per_device_train_batch_size samples; keep one")
		k.want(c.GlobalBatchSize == 0, "global_batch_size", "counts samples, and per_device_train_tokens tokens; use global_batch_tokens")
		k.want(c.GlobalBatchTokens%budget == 0, "global_batch_tokens", "%d is not a multiple of per_device_train_tokens %d", c.GlobalBatchTokens, budget)
		k.want(c.GlobalBatchTokens == 0 || c.GradientAccumulationSteps <= 1, "global_batch_tokens",
			"fixes the accumulation already; remove global_batch_tokens or gradient_accumulation_steps %d", c.GradientAccumulationSteps)
	} else {
		k.want(c.GlobalBatchTokens == 0, "global_batch_tokens", "needs per_device_train_tokens")
	}
	k.want(!c.GroupTexts || c.SampleUnit == "window", "group_texts", "is for sample_unit window, but it is %s", c.SampleUnit)
	k.want(!c.GroupTexts || len(c.Mix()) == 1 && c.Has("mlm"), "group_texts", "is for objective mlm; %s would move separators, or take them out", c.names())
	k.want(c.LongSamples != "truncate" || c.SampleUnit != "window", "long_samples", "windows hold every token, so nothing can be truncated; use sample_unit document")
	k.want(c.LongSamples != "split" || c.SampleUnit != "pair", "long_samples", "a sentence of a pair cannot be split, only truncated")
	k.want(c.MaxSteps != -1 || c.NumTrainEpochs > 0, "num_train_epochs", "must be above 0 where max_steps is not given")
	k.want(c.EvalStrategy == "no" || c.EvalStrategy == "" || len(c.EvalSets()) > 0, "eval_strategy", "%s needs eval_data or validation_split_percentage", c.EvalStrategy)
	k.want(!c.EvalOnStart || len(c.EvalSets()) > 0, "eval_on_start", "true needs eval_data or validation_split_percentage")
	k.want(c.MaxDocumentTokens == 0 || c.MaxDocumentTokens >= c.MinDocumentTokens, "max_document_tokens", "%d is below min_document_tokens %d",
		c.MaxDocumentTokens, c.MinDocumentTokens)
	k.want(c.Deduplicate == "near" || c.NearDuplicateThreshold == Default().NearDuplicateThreshold, "near_duplicate_threshold",
		"is for deduplicate near, but deduplicate is %s", c.Deduplicate)
	c.checkBest(k)
	for _, pattern := range c.Freeze {
		_, err := regexp.Compile(pattern)
		k.want(err == nil && pattern != "", "freeze", "%q is no regular expression: %v", pattern, err)
	}
	c.checkSchedule(k)
	c.checkResume(k)
	c.checkDevice(k)
}

// checkDevice refuses what the device does not have.
func (c *Config) checkDevice(k *checker) {
	k.want(!c.TF32 || c.Device != "cpu", "tf32", "is of GPUs, but device is cpu; remove tf32, or set device: cuda")
	k.want(c.Backend != "gloo" || c.Device != "cuda", "backend", "gloo sums in the host's memory, but device is cuda; leave backend out, which takes nccl")
}

// checkMixture refuses objectives that cannot share samples or a model.
func (c *Config) checkMixture(k *checker) {
	k.want(len(c.Objectives) == 0 || c.Objective == Default().Objective, "objective", "objectives lists them all; remove objective %s", c.Objective)
	seen := map[string]bool{}
	pairs, text := 0, 0
	for _, m := range c.Objectives {
		k.want(slices.Contains(fieldOf["objective"].enum, m.Objective), "objectives", "want each to be one of %s; got %q",
			strings.Join(fieldOf["objective"].enum, ", "), m.Objective)
		k.want(!seen[m.Objective], "objectives", "%s stands twice", m.Objective)
		seen[m.Objective] = true
		k.number("objectives", m.Weight, m.Weight > 0, "of a weight above 0")
		k.number("objectives", m.LossWeight, m.LossWeight >= 0, "of a loss_weight at least 0")
		if slices.Contains(onPairs, m.Objective) {
			pairs++
		}
		if slices.Contains(ofText, m.Objective) {
			text++
		}
	}
	k.want(pairs == 0 || pairs == len(c.Objectives), "objectives", "%s cannot be mixed: some are on pairs of sentences, some are not "+
		"(mlm+nsp is mlm on the pairs of nsp)", c.names())
	k.want(text == 0 || text == len(c.Objectives), "objectives", "%s cannot be mixed: no model has heads for all of them", c.names())
}

// checkBest wants evaluations and checkpoints for the best model.
func (c *Config) checkBest(k *checker) {
	for _, wants := range []struct {
		key  string
		such bool
	}{{"load_best_model_at_end", c.LoadBestModelAtEnd}, {"early_stopping_patience", c.EarlyStoppingPatience > 0}} {
		k.want(!wants.such || c.EvalStrategy != "no", wants.key, "needs evaluations: give eval_data or validation_split_percentage, and eval_strategy steps or epoch")
	}
	k.want(!c.LoadBestModelAtEnd || c.EvalStrategy == "no" || c.SaveStrategy == c.EvalStrategy, "load_best_model_at_end",
		"needs checkpoints where the model is evaluated: save_strategy is %s, eval_strategy %s", c.SaveStrategy, c.EvalStrategy)
}

// checkSchedule refuses details that the schedule would not use.
func (c *Config) checkSchedule(k *checker) {
	const key = "lr_scheduler_kwargs"
	kwargs, standard := c.LRSchedulerKwargs, Default().LRSchedulerKwargs
	wsd := c.LRSchedulerType == "warmup_stable_decay"
	k.want(!wsd || kwargs.NumDecaySteps > 0, key, "lr_scheduler_type warmup_stable_decay needs num_decay_steps, at least 1")
	k.want(wsd || c.LRSchedulerType == "cosine" || kwargs.NumCycles == standard.NumCycles, key,
		"num_cycles is of cosine and warmup_stable_decay, but lr_scheduler_type is %s", c.LRSchedulerType)
	k.want(!wsd || kwargs.DecayType == standard.DecayType || kwargs.NumCycles == standard.NumCycles, key,
		"num_cycles is of decay_type cosine, but decay_type is %s", kwargs.DecayType)
	standard.NumCycles = kwargs.NumCycles
	k.want(wsd || kwargs == standard, key, "all but num_cycles are of warmup_stable_decay, but lr_scheduler_type is %s", c.LRSchedulerType)
	k.want(c.LRSchedulerType != "constant" || c.WarmupSteps == 0, "warmup_steps",
		"lr_scheduler_type constant has no warm-up; use constant_with_warmup")
}

func (c *Config) checkResume(k *checker) {
	k.want(c.ResumeFromCheckpoint != "", "resume_from_checkpoint", "want auto, none or a checkpoint's directory, got an empty text")
	if c.OverwriteOutputDir && c.ResumeFromCheckpoint != "auto" && c.ResumeFromCheckpoint != "none" {
		k.want(false, "overwrite_output_dir", "true starts anew, but resume_from_checkpoint names %q; keep one", c.ResumeFromCheckpoint)
	}
}
