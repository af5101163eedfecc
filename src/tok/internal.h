/* internal.h - the tokenizer's insides, shared by load.h (building) and tok.c (using). */
#ifndef TOK_INTERNAL_H
#define TOK_INTERNAL_H

#include "tok/bpe.h"
#include "tok/chars.h"
#include "tok/map.h"
#include "tok/pre.h"
#include "tok/tok.h"
#include "tok/unigram.h"

/* tokenizer.ggml.token_type, numbers of the format. */
enum tok_type { TOK_NORMAL = 1, TOK_UNKNOWN, TOK_CONTROL, TOK_USER, TOK_UNUSED, TOK_BYTE };

enum tok_algo {
	TOK_BYTES,  /* pre-tokenizer, then merges over bytes in GPT-2's alphabet */
	TOK_CHARS,  /* chars.h */
	TOK_UNIGRAM /* unigram.h */
};

enum tok_strip { TOK_STRIP_BEFORE = 1, TOK_STRIP_AFTER = 2 };

struct tok {
	enum tok_algo algo;
	size_t n_vocab;
	struct gguf_str *word;  /* [n_vocab] the bytes that a token stands for, in arena */
	char *arena;
	uint8_t *type;          /* [n_vocab] enum tok_type */
	uint8_t *end;           /* [n_vocab] 1 = ends a generation */
	uint8_t *strip;         /* [n_vocab] enum tok_strip: ASCII white space beside it is dropped */
	struct gguf_str *text;  /* [n_vocab] the vocabulary's own texts, in texts; not with
	                           TOK_BYTES, */
	char *texts;            /* where special[] ones are the word */
	/* TOK_BYTES */
	int32_t byte_id[256];   /* the token of a single byte, -1 = none */
	struct bpe bpe;
	struct map whole;       /* bytes -> normal token; only with PRE_WHOLE, else slot = NULL */
	size_t longest;         /* bytes of the longest normal token */
	const struct pre_row *row;
	struct pre *pre;
	/* the others */
	struct chars chars;
	struct unigram unigram;
	int space_prefix;       /* a text begins with a blank */
	int32_t *special;       /* [n_special] control, unknown and user-defined tokens with a text, */
	size_t n_special;       /* longest first, then by id */
	int32_t bos, eos, eot, eom, unk; /* -1 = none */
	int add_bos, add_eos;
	char describe[192];
};

#endif
