// Package model holds the models that ddprun trains, written with internal/torch and exact to transformers: BERT with its family
// (family.go), and T5. A model is New from a config.json, gets its parameters' memory by Bind, their values by Load, and computes the
// summed loss of a micro-batch in Losses.
//
// Parameters are named by their Hugging Face state-dict keys, and always walked in the order of [Model.Specs].
//
// Before it come internal/hf (config and weights) and objectives (the micro-batch); after it ddp, which reduces the gradients.
package model
