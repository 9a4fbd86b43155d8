package config

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Bounds that no run comes near, which keep products and durations from overflowing.
const (
	maxSteps          = 1 << 40
	maxSize           = 1 << 30
	maxTimeoutSeconds = 365 * 24 * 3600
	maxWeight         = 1 << 20 // of a stream
)

// checker collects problems.
type checker struct{ problems []problem }

// want notes a problem unless ok.
func (k *checker) want(ok bool, key, format string, args ...any) {
	if !ok {
		k.problems = append(k.problems, problem{key, fmt.Sprintf(format, args...)})
	}
}

// size wants a count between least and a bound that no machine reaches.
func (k *checker) size(key string, value, least int) {
	k.want(value >= least, key, "must be at least %d, got %d", least, value)
	k.want(value <= maxSize, key, "must be at most %d, got %d", maxSize, value)
}

// seed wants a number that is not negative.
func (k *checker) seed(key string, value int64) {
	k.want(value >= 0, key, "must be at least 0, got %d", value)
}

// number wants a finite number for which ok holds; must says that in words.
func (k *checker) number(key string, value float64, ok bool, must string) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		ok, must = false, "a finite number"
	}
	k.want(ok, key, "must be %s, got %v", must, value)
}

// steps wants a number of steps, or a share of all steps, at least 0.
func (k *checker) steps(key string, value float64) {
	whole := value < 1 || value == math.Trunc(value) && value <= maxSteps
	k.number(key, value, value >= 0 && whole, "a whole number of steps, or a share of all steps below 1")
}

// interval is steps without 0.
func (k *checker) interval(key string, value float64) {
	k.want(value != 0, key, "must not be 0")
	k.steps(key, value)
}

func (c *Config) checkObjectiveAndBatches(k *checker) {
	share := func(key string, value float64) {
		k.number(key, value, value >= 0 && value <= 1, "between 0 and 1")
	}
	k.number("mlm_probability", c.MLMProbability, c.MLMProbability > 0 && c.MLMProbability <= 1, "above 0 and at most 1")
	share("mask_replace_prob", c.MaskReplaceProb)
	share("random_replace_prob", c.RandomReplaceProb)
	k.number("perturbation_probability", c.PerturbationProbability, c.PerturbationProbability >= 0 && c.PerturbationProbability < 1,
		"at least 0 and below 1, which would leave nothing")
	k.number("noise_density", c.NoiseDensity, c.NoiseDensity > 0 && c.NoiseDensity < 1, "above 0 and below 1")
	k.number("mean_noise_span_length", c.MeanNoiseSpanLength, c.MeanNoiseSpanLength >= 1, "at least 1")
	k.size("early_stopping_patience", c.EarlyStoppingPatience, 0)
	k.number("early_stopping_threshold", c.EarlyStoppingThreshold, c.EarlyStoppingThreshold >= 0, "at least 0")
	k.size("eval_decode_samples", c.EvalDecodeSamples, 0)
	k.number("label_smoothing_factor", c.LabelSmoothingFactor, c.LabelSmoothingFactor >= 0 && c.LabelSmoothingFactor < 1, "at least 0 and below 1")
	k.number("validation_split_percentage", c.ValidationSplitPercentage, c.ValidationSplitPercentage >= 0 && c.ValidationSplitPercentage < 100, "at least 0 and below 100")
	k.number("near_duplicate_threshold", c.NearDuplicateThreshold, c.NearDuplicateThreshold > 0 && c.NearDuplicateThreshold <= 1, "above 0 and at most 1")
	k.want(c.MinDocumentTokens >= 0, "min_document_tokens", "must be at least 0, got %d", c.MinDocumentTokens)
	k.want(c.MaxDocumentTokens >= 0, "max_document_tokens", "must be at least 0, got %d", c.MaxDocumentTokens)
	k.size("max_seq_length", c.MaxSeqLength, 0)
	least := 1
	if c.PerDeviceTrainTokens > 0 {
		least = 0
	}
	k.size("per_device_train_batch_size", c.PerDeviceTrainBatchSize, least)
	k.size("per_device_train_tokens", c.PerDeviceTrainTokens, 0)
	k.size("global_batch_tokens", c.GlobalBatchTokens, 0)
	k.size("per_device_eval_batch_size", c.PerDeviceEvalBatchSize, 1)
	k.size("global_batch_size", c.GlobalBatchSize, 0)
	k.size("gradient_accumulation_steps", c.GradientAccumulationSteps, 1)
}

// phaseTypes are the courses of warm-up and decay in warmup_stable_decay.
var phaseTypes = []string{"linear", "cosine", "1-sqrt"}

func (c *Config) checkOptimizer(k *checker) {
	notNegative := func(key string, value float64) { k.number(key, value, value >= 0, "at least 0") }
	decay := func(key string, value float64) {
		k.number(key, value, value >= 0 && value < 1, "at least 0 and below 1")
	}
	notNegative("learning_rate", c.LearningRate)
	notNegative("weight_decay", c.WeightDecay)
	decay("adam_beta1", c.AdamBeta1)
	decay("adam_beta2", c.AdamBeta2)
	k.number("adam_epsilon", c.AdamEpsilon, c.AdamEpsilon > 0, "above 0")
	k.number("layerwise_lr_decay", c.LayerwiseLRDecay, c.LayerwiseLRDecay > 0 && c.LayerwiseLRDecay <= 1, "above 0 and at most 1")
	notNegative("max_grad_norm", c.MaxGradNorm)
	k.size("max_nonfinite_steps", c.MaxNonfiniteSteps, 1)
	k.steps("warmup_steps", c.WarmupSteps)
	const key = "lr_scheduler_kwargs"
	kwargs := c.LRSchedulerKwargs
	k.number(key, kwargs.NumCycles, kwargs.NumCycles >= 0, "a map whose num_cycles is at least 0")
	k.number(key, kwargs.MinLRRatio, kwargs.MinLRRatio >= 0 && kwargs.MinLRRatio <= 1, "a map whose min_lr_ratio is between 0 and 1")
	k.want(kwargs.NumDecaySteps >= 0 && kwargs.NumDecaySteps <= maxSteps, key,
		"num_decay_steps must be between 0 and %d, got %d", int64(maxSteps), kwargs.NumDecaySteps)
	k.want(kwargs.NumStableSteps >= -1 && kwargs.NumStableSteps <= maxSteps, key,
		"num_stable_steps must be between 0 and %d, or -1 for what warm-up and decay leave, got %d", int64(maxSteps), kwargs.NumStableSteps)
	for _, x := range []struct{ name, value string }{{"warmup_type", kwargs.WarmupType}, {"decay_type", kwargs.DecayType}} {
		k.want(slices.Contains(phaseTypes, x.value), key, "%s must be one of %s, got %q", x.name, strings.Join(phaseTypes, ", "), x.value)
	}
}

// checkCourse checks the length of the run, what happens on its way, and the machine.
func (c *Config) checkCourse(k *checker) {
	k.number("num_train_epochs", c.NumTrainEpochs, c.NumTrainEpochs >= 0 && c.NumTrainEpochs <= 1e6, "between 0 and 1000000")
	k.want(c.MaxSteps == -1 || c.MaxSteps > 0 && c.MaxSteps <= maxSteps, "max_steps",
		"must be above 0 (at most %d), or -1 for num_train_epochs, got %d", int64(maxSteps), c.MaxSteps)
	k.seed("seed", c.Seed)
	k.seed("data_seed", c.DataSeed)
	k.seed("eval_seed", c.EvalSeed)
	k.interval("eval_steps", c.EvalSteps)
	k.interval("logging_steps", c.LoggingSteps)
	k.interval("save_steps", c.SaveSteps)
	k.size("save_total_limit", c.SaveTotalLimit, 0)
	k.size("threads_per_rank", c.ThreadsPerRank, 0)
	k.size("ddp_timeout", c.DDPTimeoutSeconds, 1)
	k.want(c.DDPTimeoutSeconds <= maxTimeoutSeconds, "ddp_timeout", "must be at most a year, got %d seconds", c.DDPTimeoutSeconds)
	k.size("ddp_bucket_cap_mb", c.DDPBucketCapMiB, 1)
}
