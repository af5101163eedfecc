/* internal.h - the tokenizer's insides, shared by load.c (building) and tok.c (using). */
#ifndef TOK_INTERNAL_H
#define TOK_INTERNAL_H

#include "tok/bpe.h"
#include "tok/map.h"
#include "tok/pre.h"
#include "tok/tok.h"

/* tokenizer.ggml.token_type, numbers of the format. */
enum tok_type { TOK_NORMAL = 1, TOK_UNKNOWN, TOK_CONTROL, TOK_USER, TOK_UNUSED, TOK_BYTE };

struct tok {
	size_t n_vocab;
	struct gguf_str *word;  /* [n_vocab] the tokens' bytes, in arena */
	char *arena;
	uint8_t *type;          /* [n_vocab] enum tok_type */
	uint8_t *end;           /* [n_vocab] 1 = ends a generation */
	int32_t byte_id[256];   /* the token of a single byte, -1 = none */
	struct bpe bpe;
	struct map whole;       /* bytes -> normal token; only with PRE_WHOLE, else slot = NULL */
	size_t longest;         /* bytes of the longest normal token */
	int32_t *special;       /* [n_special] control, unknown and user-defined tokens with a text, */
	size_t n_special;       /* longest first, then by id */
	const struct pre_row *row;
	struct pre *pre;
	int32_t bos, eos, eot, eom, unk; /* -1 = none */
	int add_bos;
	char describe[192];
};

#endif
