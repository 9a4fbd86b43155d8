package config

// Config is everything that train.yaml can say. The comment of a field is its documentation: docs/configuration.md
// is written from this file (go test ./internal/config -update), the key is the field's json tag, the default comes from
// Default. Tags: enum lists the values a string may have; cfg holds options: "null" (an empty value means the
// default), "path" (a leading ~/ is expanded), "resume" (a run that is resumed may change it, issue 3).
//
// Names and meanings are those of TrainingArguments (transformers 5) unless the comment says otherwise.
type Config struct {
	// Directory of the model as from_pretrained reads it (config.json, weights, tokenizer files). Required.
	Model string `json:"model" cfg:"path"`
	// Directory that receives checkpoints, metrics.jsonl, logs and the final model. Required.
	OutputDir string `json:"output_dir" cfg:"path,resume"`

	// Text to train on: a file, a directory or a glob pattern (** for any number of directories), or a list of them. Required. The ending of a name says
	// how a file is read: .jsonl, .ndjson or .json (a JSON object a line), .csv and .tsv (with a header), .parquet, anything else as plain UTF-8 text;
	// .gz, .zst, .bz2 or .xz behind it, how it is compressed. A directory stands for the files directly in it whose endings are .txt or one of these, .json apart.
	// Each may be a URL too: s3://, gs://, az:// (as a file, a prefix or a pattern), or https:// (a file); see docs/data.md.
	// A directory that ddprun prepare has printed may be named too, without its text, or the URL of a copy of it (docs/data.md). ddprun prepare also takes -, standard input.
	// Or streams of text that are mixed, a list of maps {path: P, name: N, weight: W}: an epoch takes each sample of a stream as often as its weight
	// says (default 1, above 0; 1.5: once, and half of them, others in each epoch, once more). Or share: S in place of weight, in all of them: the stream's part of an
	// epoch relative to the others', where an epoch has as many samples as all streams together.
	Data Data `json:"data" cfg:"path"`
	// What one document of a plain text is: the whole file, a paragraph (blank lines between), or a line. In other formats it is a record.
	TextUnit string `json:"text_unit" enum:"file|paragraph|line"`
	// Field of a JSON object, or column of a table, that holds a document's text. a.b is the field b in the field a. (A name of ddprun.)
	TextField string `json:"text_field"`
	// Where sentences end: at each line's end, or found by Punkt with English abbreviations (auto). Empty: sentences are not
	// marked. Default: auto for an objective on sentences or pairs of them, else empty.
	SentenceUnit string `json:"sentence_unit" enum:"|line|auto" cfg:"null"`
	// What one training sample is: a window of max_seq_length tokens, a sentence, a document (cut if longer), or two sentences that
	// follow each other in a document (pair). Default: pair for an objective on pairs, sentence for reconstruction, else window.
	SampleUnit string `json:"sample_unit" enum:"window|sentence|document|pair"`
	// Let windows go on from one document to the next, with the tokenizer's SEP token between them, which is never masked (RoBERTa's FULL-SENTENCES; run_mlm.py groups texts so, without
	// it). Fewer windows are short, but what the model reads then mixes documents. For objective mlm. (A name of ddprun.)
	GroupTexts bool `json:"group_texts"`
	// What becomes of a sentence or document that is longer than a sample: it is split into several, or its first tokens alone are trained on. The
	// share that is cut off is logged. Default: truncate for pairs, else split. (A name of ddprun.)
	LongSamples string `json:"long_samples" enum:"|split|truncate" cfg:"null"`
	// Text held out for evaluation, given as data is, or named sets as a map from name to such. A named set is reported
	// as eval_NAME_loss.
	EvalData EvalData `json:"eval_data" cfg:"null,path,resume"`
	// Percentage of the documents of data that are held out for evaluation instead of trained on, chosen by the hash of their text: a document and its copies are on one side,
	// under any tokenizer and in any order of the files. 0: none; below 100. The set is reported as eval_loss, beside eval_data as eval_validation_loss. (The name is that of
	// transformers' run_mlm.py.)
	ValidationSplitPercentage float64 `json:"validation_split_percentage" cfg:"null"`
	// Documents of data that are dropped since their text comes before in data (of all streams, the first stays), or in eval_data: exact, equal texts; near, also
	// those whose 5-grams of tokens are alike by near_duplicate_threshold. A run is then resumed with the same eval_data alone. (A name of ddprun, as are the next three.)
	Deduplicate string `json:"deduplicate" enum:"none|exact|near"`
	// Jaccard similarity, as MinHash estimates it, from which on documents are near duplicates; above 0, at most 1.
	NearDuplicateThreshold float64 `json:"near_duplicate_threshold"`
	// Fewest tokens of a document of data that is trained on or held out, without special tokens. 0: no bound.
	MinDocumentTokens int64 `json:"min_document_tokens" cfg:"null"`
	// Most tokens of such a document. 0: no bound.
	MaxDocumentTokens int64 `json:"max_document_tokens" cfg:"null"`
	// What happens to text that is not UTF-8, and to NULs: strict stops with the file and place, replace puts U+FFFD there.
	EncodingErrors string `json:"encoding_errors" enum:"strict|replace"`
	// What becomes of a bad record, such as a JSON line without the field, a damaged archive or a document that is too long: stop ends with its file, place and
	// reason; skip passes it over (with the rest of the file where that cannot be read) and counts it by reason. A full or failing disk always stops. (A name of ddprun.)
	OnError string `json:"on_error" enum:"stop|skip" cfg:"resume"`
	// Largest document in bytes, or record that holds one. A larger one is a bad record. Preparing takes about 150 times as much memory as the largest
	// document with most tokenizers, 10 times with BERT's. (A name of ddprun.)
	MaxDocumentBytes int64 `json:"max_document_bytes"`
	// Directory that keeps the token shards made from the text. Default: .ddprun/shards in output_dir.
	ShardsDir string `json:"shards_dir" cfg:"null,path,resume"`
	// Most bytes that the shards of a prepared corpus behind a URL take in shards_dir: those that were not read from for the longest time go before another is
	// fetched. At least the largest shard; 0: no limit. (A name of ddprun.)
	ShardsCacheBytes int64 `json:"shards_cache_bytes" cfg:"null,resume"`
	// Order of the samples: permuted anew each epoch, or as they stand in the text.
	DataOrder string `json:"data_order" enum:"shuffled|corpus"`

	// Training objective. mlm: masked language modelling (BERT 3.1). nsp: next-sentence prediction (BERT 3.1), whether the second of two
	// sentences follows the first or is a random one. sop: sentence-order prediction (ALBERT 3.1), whether two sentences have changed places.
	// mlm+nsp, mlm+sop: both losses on the same pairs, added. For models that read one text and write another, such as T5 - reconstruction:
	// a sentence is written again of which words were deleted and the rest shuffled. span_corruption: the spans that were taken out of a text are
	// written (T5 3.1.4).
	Objective string `json:"objective" enum:"mlm|nsp|sop|mlm+nsp|mlm+sop|reconstruction|span_corruption"`
	// Several objectives in place of objective: a list of their names, or of maps {objective: NAME, weight: W, loss_weight: L}. weight (default 1) is the
	// share of the samples that an objective makes, relative to the others'; loss_weight (default 1) multiplies its mean loss. All work on the same
	// unit of sample and the same model. Losses are told apart; every held-out sample is evaluated for each. (A name of ddprun.)
	Objectives Mixture `json:"objectives" cfg:"null"`
	// Where the random sentence of an nsp pair comes from: another document than the first's, or any.
	NSPNegatives string `json:"nsp_negatives" enum:"other_document|any"`
	// Probability that a token (with whole_word_mask, a word) is selected for prediction; above 0, at most 1.
	MLMProbability float64 `json:"mlm_probability"`
	// Share of the selected tokens that is replaced by the mask token, 0 to 1.
	MaskReplaceProb float64 `json:"mask_replace_prob"`
	// Share of the selected tokens that is replaced by a random token, 0 to 1. The rest stays as it is.
	RandomReplaceProb float64 `json:"random_replace_prob"`
	// Select whole words instead of single tokens.
	WholeWordMask bool `json:"whole_word_mask"`
	// Probability that reconstruction deletes or masks a word; below 1. A sentence never loses all of its words. (A name of ddprun, as are the next two.)
	PerturbationProbability float64 `json:"perturbation_probability"`
	// What reconstruction does to such a word: it is gone, or the tokenizer's mask token (else its sentinel <extra_id_0>) stands in its place.
	Perturbation string `json:"perturbation" enum:"delete|mask"`
	// What reconstruction does to the order of the other words: any order, one in which none moves by more than three places, or as they stand.
	WordOrder string `json:"word_order" enum:"shuffle|window|keep"`
	// Share of the tokens that span_corruption takes out, above 0 and below 1. (T5's name, as is the next.)
	NoiseDensity float64 `json:"noise_density"`
	// Mean length in tokens of the spans that span_corruption takes out; at least 1.
	MeanNoiseSpanLength float64 `json:"mean_noise_span_length"`
	// Share of each target that is spread over all tokens or classes, in training and evaluation alike, as Trainer's LabelSmoother does it; 0 to
	// below 1. A perplexity is then one of the smoothed loss.
	LabelSmoothingFactor float64 `json:"label_smoothing_factor"`
	// Longest sample in tokens, special tokens included. 0: what the model's position embeddings allow; 512 for a T5, whose positions have no
	// end.
	MaxSeqLength int `json:"max_seq_length" cfg:"null"`

	// Samples in a micro-batch, which passes through the model at once. Default: 8, or none with per_device_train_tokens.
	PerDeviceTrainBatchSize int `json:"per_device_train_batch_size"`
	// Samples in a micro-batch of the evaluation.
	PerDeviceEvalBatchSize int `json:"per_device_eval_batch_size" cfg:"resume"`
	// Most tokens in a micro-batch, special ones and both sides of a sample included, in place of per_device_train_batch_size: it takes a lane's samples, in their order, while they
	// fit. Steps then differ from epoch to epoch; one lasts as long as the longest lane. 0: by samples. (A name of ddprun, as is the next.)
	PerDeviceTrainTokens int `json:"per_device_train_tokens" cfg:"null"`
	// Tokens in a step over all ranks, at most; a multiple of per_device_train_tokens, independent of the number of ranks. 0:
	// per_device_train_tokens x gradient_accumulation_steps x ranks.
	GlobalBatchTokens int `json:"global_batch_tokens" cfg:"null"`
	// Samples in a step over all ranks; a multiple of per_device_train_batch_size, independent of the number of ranks.
	// 0: per_device_train_batch_size x gradient_accumulation_steps x ranks.
	GlobalBatchSize int `json:"global_batch_size" cfg:"null"`
	// Micro-batches that each rank adds up in a step, when global_batch_size does not fix their number.
	GradientAccumulationSteps int `json:"gradient_accumulation_steps"`
	// Multiply matrices in bfloat16, forward, backward and in evaluations, with parameters, optimizer and everything between in float32. It is fast where the CPU
	// has such instructions (avx512_bf16, AMX).
	BF16 bool `json:"bf16"`
	// Let products of float32 matrices round their factors to TF32, 10 bits of precision in place of 23, on GPUs that have it (Ampere and newer). For device cuda;
	// with bf16 it concerns what stays in float32.
	TF32 bool `json:"tf32" cfg:"null"`
	// Compute each layer again in backward instead of keeping what that needs: less memory for about a third more time, and the same results (a T5's but for rounding).
	GradientCheckpointing bool `json:"gradient_checkpointing" cfg:"resume"`
	// Leave out the last step of an epoch where it has fewer samples than the others; with per_device_train_tokens, the steps in which a lane has none.
	DataloaderDropLast bool `json:"dataloader_drop_last"`

	// Passes over the data; a fraction is possible.
	NumTrainEpochs float64 `json:"num_train_epochs" cfg:"resume"`
	// Steps (optimizer updates) in all; above 0 it takes the place of num_train_epochs.
	MaxSteps int64 `json:"max_steps" cfg:"resume"`

	// Peak learning rate of AdamW.
	LearningRate float64 `json:"learning_rate"`
	// Course of the learning rate after warm-up.
	LRSchedulerType string `json:"lr_scheduler_type" enum:"linear|cosine|constant|constant_with_warmup|warmup_stable_decay"`
	// Details of the course, named as in transformers' schedules: a map of num_cycles (cosine, warmup_stable_decay; default
	// 0.5) and, for warmup_stable_decay alone, num_decay_steps (required), num_stable_steps (default: what warm-up and decay
	// leave), min_lr_ratio (default 0), warmup_type (default linear) and decay_type (default cosine); the types are linear,
	// cosine and 1-sqrt.
	LRSchedulerKwargs LRSchedulerKwargs `json:"lr_scheduler_kwargs" cfg:"null"`
	// Warm-up, linear unless lr_scheduler_kwargs says otherwise: a number of steps if 1 or more, a share of all steps if below 1.
	WarmupSteps float64 `json:"warmup_steps"`
	// AdamW's weight decay. Biases and normalisation weights are spared, as in Trainer.
	WeightDecay float64 `json:"weight_decay"`
	// AdamW's decay rate of the first moment, 0 to below 1.
	AdamBeta1 float64 `json:"adam_beta1"`
	// AdamW's decay rate of the second moment, 0 to below 1.
	AdamBeta2 float64 `json:"adam_beta2"`
	// AdamW's term for numerical stability, above 0.
	AdamEpsilon float64 `json:"adam_epsilon"`
	// Layer-wise decay of the learning rate: a layer's is this share of that of the layer above it. The heads learn at the full rate, the
	// embeddings at the lowest. 1: all alike. (A name of ddprun.)
	LayerwiseLRDecay float64 `json:"layerwise_lr_decay"`
	// Parameters that stay as they are: regular expressions (RE2) that are looked for in their names, such as ^bert\.embeddings\. or
	// layer\.[0-5]\. (A name of ddprun.)
	Freeze Strings `json:"freeze" cfg:"null"`
	// Largest global norm of the gradient; a longer gradient is scaled down to it. 0: no clipping.
	MaxGradNorm float64 `json:"max_grad_norm"`
	// Steps in a row with a loss or gradient that is not finite after which the run ends. Each such step is skipped
	// and logged. (A name of ddprun.)
	MaxNonfiniteSteps int `json:"max_nonfinite_steps"`

	// Seed of everything random but what the next two keys seed.
	Seed int64 `json:"seed"`
	// Seed of the order of the samples. Default: seed.
	DataSeed int64 `json:"data_seed" cfg:"null"`
	// Seed of the evaluation's masks, apart from seed so that runs are compared on the same masks. (A name of ddprun.)
	EvalSeed int64 `json:"eval_seed" cfg:"resume"`
	// Take algorithms on cuda that repeat bit for bit, though they are slower, and one algorithm and protocol of NCCL (Ring, Simple, unless NCCL_ALGO and NCCL_PROTO say others), so that
	// a run repeats and resumes bit for bit on the same GPUs. On the CPU it does so anyway.
	FullDeterminism bool `json:"full_determinism" cfg:"resume"`

	// When the model is evaluated on eval_data: every eval_steps (steps) or after each epoch, and at the end; or never (no).
	// Default: steps where there is eval_data, else no. (Trainer's default is no.)
	EvalStrategy string `json:"eval_strategy" enum:"no|steps|epoch" cfg:"resume"`
	// Steps between evaluations; below 1, a share of all steps. Default: save_steps.
	EvalSteps float64 `json:"eval_steps" cfg:"null,resume"`
	// Samples of each evaluation set for which a model that writes text writes it whole, each token after those before it, to tell how many of
	// the right tokens, and of the right texts, it finds. They are spread over the set; 0: none. (A name of ddprun.)
	EvalDecodeSamples int `json:"eval_decode_samples" cfg:"null,resume"`
	// Evaluate before the first step too. Default: true unless eval_strategy is no. (Trainer's default is false.)
	EvalOnStart bool `json:"eval_on_start" cfg:"resume"`
	// Steps between log lines and records of metrics.jsonl; below 1, a share of all steps. (Trainer's default is 500.)
	LoggingSteps float64 `json:"logging_steps" cfg:"resume"`
	// Write what each rank trains on to samples/rank-<rank>.jsonl in output_dir: an object for each lane of a step, with the samples' numbers in
	// the epoch (which inspect takes), their streams and their numbers in these. (A name of ddprun.)
	SampleLog bool `json:"sample_log" cfg:"resume"`
	// Least severe log message that is shown.
	LogLevel string `json:"log_level" enum:"debug|info|warning|error" cfg:"resume"`

	// When checkpoints are written: every save_steps (steps) or after each epoch, and at the end; or never (no). The final model is
	// written in any case.
	SaveStrategy string `json:"save_strategy" enum:"no|steps|epoch" cfg:"resume"`
	// Steps between checkpoints; below 1, a share of all steps. No checkpoints: save_strategy no.
	SaveSteps float64 `json:"save_steps" cfg:"resume"`
	// Newest checkpoints to keep; older ones are deleted once a newer is complete. 0: all are kept.
	SaveTotalLimit int `json:"save_total_limit" cfg:"null,resume"`
	// The final model is the best one among the checkpoints of evaluated steps, by metric_for_best_model; save_total_limit spares its
	// checkpoint. It wants checkpoints at every evaluation, or at every second, third, ... one.
	LoadBestModelAtEnd bool `json:"load_best_model_at_end" cfg:"resume"`
	// What is best, with or without "eval_" before it: a number of the evaluations' records, such as loss, b_loss (of the set b), nsp_accuracy or
	// exact_match. Default: loss where load_best_model_at_end or early_stopping_patience asks for one.
	MetricForBestModel string `json:"metric_for_best_model" cfg:"null,resume"`
	// A larger metric_for_best_model is better. Default: false for losses and perplexities, else true.
	GreaterIsBetter bool `json:"greater_is_better" cfg:"null,resume"`
	// Evaluations in a row without a better metric_for_best_model after which the run ends, as with transformers' EarlyStoppingCallback. 0: none.
	EarlyStoppingPatience int `json:"early_stopping_patience" cfg:"null,resume"`
	// By more than how much metric_for_best_model must be better to count for early stopping.
	EarlyStoppingThreshold float64 `json:"early_stopping_threshold" cfg:"resume"`
	// Start anew in an output_dir that holds a run, deleting its checkpoints. (A name of transformers 4.)
	OverwriteOutputDir bool `json:"overwrite_output_dir" cfg:"resume"`
	// Where training starts: auto (the newest complete checkpoint of output_dir, if there is one), none (afresh), or a
	// checkpoint's directory.
	ResumeFromCheckpoint string `json:"resume_from_checkpoint" cfg:"null,path,resume"`

	// Device of the ranks: cuda gives each rank of a node a GPU of those that CUDA_VISIBLE_DEVICES leaves, by its number on the node (LOCAL_RANK); cpu; or auto, which takes cuda where
	// NVIDIA's driver, a GPU and libtorch's CUDA half are there, backend is not gloo, and says which it took. (Trainer has use_cpu.)
	Device string `json:"device" enum:"auto|cpu|cuda" cfg:"resume"`
	// Communication between the ranks: auto is nccl on cuda, and on cpu gloo with gradients summed in memory that a node's ranks share;
	// gloo alone does without that memory. On the CPU nccl is refused but on the loopback library, the test double of NCCL. ddp_backend is taken too.
	Backend string `json:"backend" enum:"auto|gloo|nccl" cfg:"resume"`
	// CPU threads of each rank. 0: the node's cores divided by its ranks. (A name of ddprun.)
	ThreadsPerRank int `json:"threads_per_rank" cfg:"resume"`
	// Seconds without an answer after which a collective operation fails.
	DDPTimeoutSeconds int `json:"ddp_timeout" cfg:"resume"`
	// Size in MiB of the buckets in which gradients are all-reduced; the first one is 1 MiB.
	DDPBucketCapMiB int `json:"ddp_bucket_cap_mb" cfg:"null"`
	// How gradients are sent: as they are, or rounded to 16 bits, which halves what goes over the network and rounds their sums too; the optimizer goes on in
	// float32. With backend auto on the CPU it takes the way of gloo, past the shared memory. (A name of ddprun; PyTorch's hooks are bf16_compress_hook and fp16_compress_hook.)
	DDPCommHook string `json:"ddp_comm_hook" enum:"none|bf16|fp16"`
}

// LRSchedulerKwargs are the details of a learning-rate schedule, named as in transformers/optimization.py.
type LRSchedulerKwargs struct {
	// Waves of the cosine: 0.5 falls from the peak to the end in half a wave.
	NumCycles float64 `json:"num_cycles"`
	// Share of the peak learning rate that is left at the end.
	MinLRRatio float64 `json:"min_lr_ratio"`
	// Steps of the decay after the stable phase; steps after both stay at the minimum.
	NumDecaySteps int64 `json:"num_decay_steps"`
	// Steps at the peak. -1: what warm-up and decay leave of the run.
	NumStableSteps int64 `json:"num_stable_steps"`
	// Course of the warm-up: linear, cosine or 1-sqrt.
	WarmupType string `json:"warmup_type"`
	// Course of the decay: linear, cosine or 1-sqrt.
	DecayType string `json:"decay_type"`
}

// Mixture is the objectives of a run and what they weigh.
type Mixture []MixedObjective

// MixedObjective is an objective of a mixture.
type MixedObjective struct {
	Objective  string  `json:"objective"`
	Weight     float64 `json:"weight"`
	LossWeight float64 `json:"loss_weight"`
}

// Strings is a list of strings that may be written as a single one.
type Strings []string

// Data is the streams of text that a run trains on, one at least.
type Data []DataStream

// DataStream is a part of the text, mixed with others by weight or by share.
type DataStream struct {
	Name   string   `json:"name"`
	Paths  []string `json:"path"`
	Weight float64  `json:"weight"`
	Share  float64  `json:"share"` // above 0: in place of Weight
}

// EvalSet is a named set of held-out text. Name is empty for the set of an eval_data without names.
type EvalSet struct {
	Name  string   `json:"name"`
	Paths []string `json:"paths"`
}

// EvalData are the evaluation sets in the order in which they are written.
type EvalData []EvalSet

// Default returns the configuration of an empty file. Model, Data and OutputDir have no default; the fields whose default
// follows from other keys (shards_dir, data_seed, eval_*) are settled by Load.
func Default() *Config {
	return &Config{
		TextUnit:                  "paragraph",
		TextField:                 "text",
		SampleUnit:                "window",
		EncodingErrors:            "strict",
		OnError:                   "stop",
		MaxDocumentBytes:          16 << 20,
		Deduplicate:               "none",
		NearDuplicateThreshold:    0.8,
		DataOrder:                 "shuffled",
		Objective:                 "mlm",
		NSPNegatives:              "other_document",
		MLMProbability:            0.15,
		MaskReplaceProb:           0.8,
		RandomReplaceProb:         0.1,
		PerturbationProbability:   0.2,
		Perturbation:              "delete",
		WordOrder:                 "shuffle",
		NoiseDensity:              0.15,
		MeanNoiseSpanLength:       3,
		EvalDecodeSamples:         64,
		PerDeviceTrainBatchSize:   8,
		PerDeviceEvalBatchSize:    8,
		GradientAccumulationSteps: 1,
		NumTrainEpochs:            3,
		MaxSteps:                  -1,
		LearningRate:              5e-5,
		LRSchedulerType:           "linear",
		LRSchedulerKwargs:         LRSchedulerKwargs{NumCycles: 0.5, NumStableSteps: -1, WarmupType: "linear", DecayType: "cosine"},
		AdamBeta1:                 0.9,
		AdamBeta2:                 0.999,
		AdamEpsilon:               1e-8,
		LayerwiseLRDecay:          1,
		MaxGradNorm:               1,
		MaxNonfiniteSteps:         3,
		Seed:                      42,
		EvalSeed:                  42,
		LoggingSteps:              10,
		LogLevel:                  "info",
		SaveStrategy:              "steps",
		SaveSteps:                 500,
		ResumeFromCheckpoint:      "auto",
		Device:                    "auto",
		Backend:                   "auto",
		DDPTimeoutSeconds:         1800,
		DDPBucketCapMiB:           25,
		DDPCommHook:               "none",
	}
}
