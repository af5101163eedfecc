/*
 * tok.h - text <-> token ids, from the tokenizer that a GGUF carries.
 *
 * Byte-level BPE (tokenizer.ggml.model = "gpt2"): the text is cut by the pre-tokenizer's regular
 * expressions (one table row per tokenizer.ggml.pre, src/tok/pre.c), each piece's bytes are mapped
 * to the 256 printable code points of GPT-2, and merges are applied lowest rank first. Any byte
 * string encodes and decodes back to itself. Immutable after loading; encoding is thread-safe.
 */
#ifndef TOK_TOK_H
#define TOK_TOK_H

#include <stddef.h>
#include <stdint.h>

#include "gguf/gguf.h"

struct tok;

/* Refuses by name what it does not know: model, pre-tokenizer. */
struct tok *tok_load(const struct gguf *g, struct moe_err *e);
void tok_free(struct tok *t);

enum tok_flag {
	TOK_SPECIAL = 1, /* special tokens written in the text become their ids */
	TOK_BOS = 2      /* put BOS in front where the model asks for it */
};
/* *ids is malloced, the caller frees. Never fails on content, only for memory. */
int tok_encode(const struct tok *t, const char *text, size_t len, unsigned flags, int32_t **ids,
	size_t *n, struct moe_err *e);

/* The bytes of a token (not NUL-terminated; may be part of a UTF-8 sequence); NULL if id is out of
 * range. Lives as long as t. */
const char *tok_bytes(const struct tok *t, int32_t id, size_t *len);

size_t tok_n_vocab(const struct tok *t);
int32_t tok_bos(const struct tok *t); /* -1 = none */
int32_t tok_eos(const struct tok *t); /* -1 = none */
int tok_is_end(const struct tok *t, int32_t id);     /* ends a generation: eos, eot, eom */
int tok_is_special(const struct tok *t, int32_t id); /* control tokens */
const char *tok_describe(const struct tok *t);       /* "gpt2/qwen2, 4096 tokens" */

#endif
