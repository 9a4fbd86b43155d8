// Package tokenizer turns text into token ids with the Rust crate that Hugging Face's own tokenizers package is made of, so
// that ids, offsets and word ids are theirs, exactly, for every kind of tokenizer.json.
//
// New reads a tokenizer.json (package internal/hf finds it, or makes it from older files), EncodeBatch encodes texts or pairs
// into flat arrays, and Truncating gives the same tokenizer with a maximum length. The ids go to package shard, which stores
// them, and to the commands that show them.
//
// Caveats. The truncation and padding that a tokenizer.json may contain are dropped, as transformers does when it is not
// asked for them. One call works on one thread; to use more, call from several goroutines. The library is the static archive
// lib/libddprun_tokenizers.a, which scripts/tokenizer-lib.sh builds from rust/ and links there.
//
// # What is a word
//
// Whole-word masking masks the tokens of a word together. A word is what the crate's word ids say: one piece of the
// pre-tokenizer. With BERT's, each punctuation mark and each Chinese character is a word of its own; with byte-level BPE
// (GPT-2, RoBERTa) a word has the space before it, a run of punctuation is a word, and so is a contraction's end ('s);
// with SentencePiece a word is what stands between spaces, punctuation included. Tokenizers without a pre-tokenizer (Llama)
// know only one word a text; there a token that begins with U+2581, SentencePiece's sign for a space, starts a word too.
// The collator of transformers 5 goes by gaps between offsets instead: there punctuation belongs to the word that it
// touches, and with GPT-2, whose offsets include the space, a whole text would be one word.
package tokenizer
