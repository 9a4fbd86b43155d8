// Package torch is the project's way to libtorch: a light tensor over gotch's generated bindings (libtch), and one small
// C++ shim for what they lack (gradient hooks, Gloo, fused AdamW, layers with reproducible dropout).
//
// # Tensors and scopes
//
// A [Tensor] is a handle of 8 bytes. Operations are methods of a [Scope], which owns every tensor made in it and frees them
// together; a tensor that must live longer leaves by [Scope.Move] and is freed by its new owner. Arguments are borrowed.
//
// An operation that libtorch refuses panics with an *[Error]; [Do], the edge of a scope, turns that into an error. So the
// code of a model has no error handling, and nothing that libtorch says ends the process.
//
// # Threads
//
// libtorch keeps the gradient mode, gotch its last error and OpenMP its pool a thread, so [Do] locks the goroutine to its OS
// thread, and a rank does all its tensor work in one goroutine. Callbacks (bucket hooks, the store) may come on other threads.
//
// # Before and after
//
// internal/model writes models with this package; ddp reduces their gradients and steps their parameters.
package torch
