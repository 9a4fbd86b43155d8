// Package objectives turns samples into what a model learns from: token ids with something hidden, and the labels of
// what was hidden.
//
// An [Objective] ([MLM], [Pair], [Reconstruction], [SpanCorruption]) appends one Sample after another to a Batch, the micro-batch without padding that a model reads.
// All the randomness there is comes from a Key of (seed, epoch, sample): the same key gives the same draws on any rank, at
// any world size and after any interruption, and no state is carried from one sample to the next. Evaluation uses
// Key{Seed: eval_seed, Sample: id}, with epoch 0, so that every evaluation hides the same tokens.
//
// Objectives are immutable and safe for concurrent use. The generator's state and all buffers lie in the Batch, which
// belongs to one goroutine at a time; a Batch that is reset and filled again allocates nothing once it has grown.
//
// Before this package comes shard, which delivers samples; after it comes internal/model, which reads batches. Only pairs, and words that
// [Reconstruction] encodes again, are truncated here; other samples and their special tokens must fit the model's positions.
package objectives
