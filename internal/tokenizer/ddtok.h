/*
 * C interface of the Rust library in rust/. Functions that can fail take err and, when they do, set *err to a message that
 * the caller frees with ddtok_error_free; on success *err is left alone. No function keeps a pointer it was given.
 * A tokenizer may be used by many threads at once. No function calls back.
 */
#ifndef DDTOK_H
#define DDTOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ddtok_tokenizer ddtok_tokenizer;
typedef struct ddtok_arrays ddtok_arrays;

/* What ddtok_encode returns, besides ids. */
enum {
	DDTOK_SPECIAL_TOKENS = 1,
	DDTOK_TYPE_IDS = 2,
	DDTOK_OFFSETS = 4,
	DDTOK_WORD_IDS = 8,
	DDTOK_SEQUENCE_IDS = 16,
	DDTOK_WORD_STARTS = 32,
	DDTOK_OVERFLOW = 64,
};

/* Encodings as flat arrays with an element a token. The pointers lead into owner; an array not asked for is empty. */
typedef struct {
	ddtok_arrays *owner;
	const uint32_t *ids, *type_ids, *offsets; /* offsets: start and end of each token, in characters */
	const int32_t *word_ids, *sequence_ids;   /* -1: none */
	const bool *word_starts;
	const size_t *starts; /* encodings + 1: encoding k has tokens starts[k] to starts[k+1] */
	const size_t *firsts; /* inputs + 1: input i has encodings firsts[i] to firsts[i+1] */
	size_t tokens, encodings;
	size_t failed; /* after an error: the input it lies in; SIZE_MAX: in none */
} ddtok_batch;

/* A string of length bytes that is not terminated. */
typedef struct {
	uint8_t *data;
	size_t length;
} ddtok_bytes;

/* Reads a tokenizer.json, without its truncation and padding. NULL: failed. */
ddtok_tokenizer *ddtok_new(const uint8_t *json, size_t length, char **err);

/* The same tokenizer with a truncation. strategy: 0 longest first, 1 only first, 2 only second; direction: 0 right, 1 left. */
ddtok_tokenizer *ddtok_truncating(const ddtok_tokenizer *t, size_t max_length, size_t stride, int strategy, int direction,
                                  char **err);

void ddtok_free(ddtok_tokenizer *t);

/*
 * Encodes texts one after another on the calling thread. data holds them back to back; text i ends at ends[i].
 * texts_per_input: 1, or 2 for pairs. 0: done, and the caller frees the batch; otherwise out->failed is set.
 */
int ddtok_encode(const ddtok_tokenizer *t, const uint8_t *data, const size_t *ends, size_t texts, size_t texts_per_input,
                 uint32_t flags, ddtok_batch *out, char **err);

void ddtok_batch_free(ddtok_batch *batch);

/* Ids back to text; unknown ids are left out. 0: done, and the caller frees out. */
int ddtok_decode(const ddtok_tokenizer *t, const uint32_t *ids, size_t length, bool skip_special, ddtok_bytes *out, char **err);

/* -1: no such token, or failed when *err is set. */
int64_t ddtok_token_to_id(const ddtok_tokenizer *t, const uint8_t *token, size_t length, char **err);

/* 0: found, and the caller frees out. 1: no such id, or failed when *err is set. */
int ddtok_id_to_token(const ddtok_tokenizer *t, uint32_t id, ddtok_bytes *out, char **err);

/* Number of tokens, with or without the added ones that the model does not know. -1: failed. */
int64_t ddtok_vocab_size(const ddtok_tokenizer *t, bool with_added, char **err);

void ddtok_bytes_free(ddtok_bytes bytes);
void ddtok_error_free(char *message);

#endif
