/*
 * tok.h - text <-> token ids, from the tokenizer that a GGUF carries (tokenizer.ggml.model).
 *
 *  - "gpt2", byte-level BPE: the text is cut by the pre-tokenizer's regular expressions (one table
 *    row per tokenizer.ggml.pre, src/tok/pre.c), each piece's bytes are mapped to the 256 printable
 *    code points of GPT-2, and merges are applied lowest rank first. Any byte string encodes and
 *    decodes back to itself.
 *  - "llama", SentencePiece BPE, and "gemma4", BPE over characters (src/tok/chars.h). U+2581
 *    decodes to a blank, all else comes back, if the vocabulary has byte tokens.
 *  - "t5", unigram (src/tok/unigram.h): the text comes back normalised.
 *
 * Immutable after loading; encoding is thread-safe.
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
	TOK_SPECIAL = 1,  /* special tokens written in the text become their ids */
	TOK_BOS = 2,      /* put BOS in front where the model asks for it */
	TOK_EOS = 4,      /* and EOS behind */
	TOK_CONTINUE = 8  /* the text goes on from other text: no blank is put in front of it */
};
/* *ids is malloced, with room for one more; the caller frees. Never fails on content, only for
 * memory. Without TOK_SPECIAL user-defined tokens are still found: words that the vocabulary's
 * maker added. */
int tok_encode(const struct tok *t, const char *text, size_t len, unsigned flags, int32_t **ids,
	size_t *n, struct moe_err *e);

/* The same for a text with stretches from outside: start <= byte < end, ascending, apart. Whatever
 * they say is text: no control token touches a stretch, and no user-defined one that also stands
 * outside of all of them. */
struct tok_span { size_t start, end; };
int tok_encode_around(const struct tok *t, const char *text, size_t len,
	const struct tok_span *outside, size_t n_outside, unsigned flags, int32_t **ids, size_t *n,
	struct moe_err *e);

/* The text of tokens, malloced; not NUL-terminated. TOK_SPECIAL: control and unknown tokens are
 * written out, else left out. The blank that encoding puts in front is taken off again, unless
 * TOK_CONTINUE. -1 for want of memory. */
int tok_decode(const struct tok *t, const int32_t *ids, size_t n, unsigned flags, char **text,
	size_t *len, struct moe_err *e);

/* Decoding token by token, for a screen: bytes of a UTF-8 sequence wait until it is complete or
 * cannot be any more. Plain data, zero to start. */
struct tok_stream { char part[4]; size_t n; };
/* Writes what is complete to out, which has room for the token's bytes and 3 more; returns how
 * much. id -1 at the end: what waits comes out as it is. Control tokens give nothing. */
size_t tok_stream_next(struct tok_stream *s, const struct tok *t, int32_t id, char *out);

/* The bytes of a token (not NUL-terminated; may be part of a UTF-8 sequence); NULL if id is out of
 * range. Lives as long as t. */
const char *tok_bytes(const struct tok *t, int32_t id, size_t *len);

size_t tok_n_vocab(const struct tok *t);
int32_t tok_bos(const struct tok *t); /* -1 = none */
int32_t tok_eos(const struct tok *t); /* -1 = none */
int tok_is_end(const struct tok *t, int32_t id);     /* ends a generation: eos, eot, eom */
int tok_is_special(const struct tok *t, int32_t id); /* control tokens */
int tok_adds_bos(const struct tok *t);
/* A model may ask for a blank in front of a text: so a reply starts with one that nobody wrote. */
int tok_adds_blank(const struct tok *t);
/* The token whose bytes are exactly these and that TOK_SPECIAL finds, or -1. */
int32_t tok_find_special(const struct tok *t, const char *text);
const char *tok_describe(const struct tok *t);       /* "gpt2/qwen2, 4096 tokens" */

#endif
