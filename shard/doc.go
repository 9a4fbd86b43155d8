// Package shard turns a corpus into token shards on disk, and says which
// sample of it comes when, and on which rank.
//
// The stage before it is the tokenizer (an Encoder passed in by the caller), the
// stage after it is package objectives, which makes inputs and labels of samples.
//
//	sources    --Prepare--> <dir>/<digest>/{index.json, shard-*.bin}
//	           --Open-----> Corpus            memory-mapped, a shard on first use
//	           --Samples--> Samples           windows, sentences, documents or pairs; random access
//	           --NewDataset-> Dataset         streams mixed by weights: the numbers of an epoch
//	           --Order----> sample numbers    (epoch, step, lane) -> a micro-batch
//
// Shards hold the text's structure (documents, sentences, words) and never the
// lengths of a training run: another MaxTokens needs no new shards, only another
// sample index, a small file beside them. Everything on disk is little-endian,
// versioned and checksummed; docs/shard-format.md describes it byte by byte.
//
// Order is arithmetic: which samples a lane sees in a step is a pure function of
// (number of samples, lanes, batch size, seed, epoch, step, lane). Ranks hold lanes,
// so the global batch of a step is the same at every world size.
//
// What is prepared is named by the digest of all that it depends on (texts,
// tokenizer, options), so nothing stale is ever opened, a second Prepare of the
// same inputs does nothing, and processes that prepare at the same time, on one node or
// several, do the work once. It is cut into parts: what a killed process has finished is
// gone on from. A directory appears whole, by a rename, or not at all.
//
// Caveats: a document is held in memory (PrepareConfig.MaxDocumentBytes); a Corpus and its
// Samples may be read by several goroutines, but not while they are being closed.
package shard
