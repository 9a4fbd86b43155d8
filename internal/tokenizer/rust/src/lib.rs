//! Hugging Face's `tokenizers` behind a small C interface: the functions of `ffi.rs`, declared for C in `../../ddtok.h`.
//!
//! Every function that can fail takes `err` and sets it in the same call; a panic anywhere below is caught and becomes
//! such an error (`guard.rs`). Nothing here starts a thread or prints. A tokenizer may be used from many threads at once.

mod arrays;
mod ffi;
mod guard;
mod handle;
