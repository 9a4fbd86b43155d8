// Package train is the training loop of one rank: from samples to updated parameters, with evaluation, metrics and checkpoints.
//
// [Run] is the loop, on one page. The stages of a step:
//
//	feed      samples -> objective -> micro-batches, and the step's counts over all ranks, one step ahead
//	step      forward, backward with bucket all-reduce, clip, AdamW
//	metrics   a log line and a record of metrics.jsonl every logging_steps
//	evaluate  held-out loss at the start, every eval_steps and at the end
//	save      a checkpoint every save_steps and at the end, written in the background by rank 0
//
// A position is the number of steps done; with the samples, the lanes and the seeds, which a checkpoint holds, it determines all that
// follows. The samples come from shard, the process group's store from the launcher; both are given to Run in a [Job] by
// cmd/ddprun-worker.
package train
