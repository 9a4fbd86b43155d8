// Package ddp is data-parallel training of one model by several ranks: process groups, parameters and gradients in flat buffers,
// gradients that are all-reduced while backward goes on, clipping, AdamW and learning-rate schedules.
//
// A step of a rank:
//
//	reducer.Begin()             // before the last backward pass of the step
//	loss.Backward()             // hooks send full buckets, in bucket order
//	reducer.Finish()            // sends the rest and waits: every rank holds the same gradient
//	norm, _ := params.GradNorm()
//	params.Clip(norm, maxNorm)
//	optimizer.Step(lr)
//
// On a GPU [Optimizer.StepOnDevice] takes the place of the last three, and what it decides is read later.
//
// Every rank must call the group's collectives in the same order. Gradients are summed, never averaged: the loss is divided by
// the global count before backward.
//
// A Group is Gloo's, Gloo's with the gradients in memory that the ranks of a node share, NCCL's, or one within a process.
//
// Before it comes internal/model, whose parameters live in these buffers; after it internal/train, which runs the steps.
package ddp
