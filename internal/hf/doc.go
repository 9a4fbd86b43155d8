// Package hf reads and writes a model directory as Hugging Face's
// from_pretrained and save_pretrained do: config.json, the weights, the
// tokenizer's files.
//
//   - Config is config.json with every field kept, in its order and spelling.
//   - Weights is the tensors by name, mapped from model.safetensors, its sharded
//     form, or pytorch_model.bin; Match says which of them a model's parameters are.
//   - WriteSafetensors writes tensors byte for byte as Python's safetensors does.
//   - TokenizerJSON and ReadSpecialTokens give internal/tokenizer and the objectives
//     what they need, from whichever tokenizer files there are.
//   - CopyExtras carries over all that the package does not understand.
//
// Model directories come from elsewhere, so nothing in them is trusted: sizes are
// checked before anything is allocated, no pickle is ever executed, and every
// error names the file and what is wrong in it.
//
// Tensors of an open Weights lie in the mapped file. A file that another process
// truncates while it is mapped ends the reader with SIGBUS, as with every mapped
// file; writers must write elsewhere and rename, which internal/checkpoint does.
//
// The package is pure Go and imports nothing of ours. Before it: a directory from
// the user or the Hub. After it: internal/model, internal/tokenizer,
// internal/checkpoint.
package hf
