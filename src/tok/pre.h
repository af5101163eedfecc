/*
 * pre.h - the first step of byte-level BPE: cutting text into the pieces that merges stay within.
 *
 * Each model family was trained with its own regular expressions; tokenizer.ggml.pre names them.
 * pre.c holds one table row per family. With another family's expressions the text still round
 * trips, but the model sees token sequences that it was not trained on: so unknown names are
 * refused.
 */
#ifndef TOK_PRE_H
#define TOK_PRE_H

#include <stddef.h>

#include <moescope/err.h>

#define PRE_STEPS 6

enum pre_flag {
	PRE_WHOLE = 1, /* a piece that is a token is taken as it is, before any merge */
	PRE_BOS = 2,   /* BOS in front unless tokenizer.ggml.add_bos_token says no */
	PRE_CHARS = 4, /* merges start at characters, within lines (tok/chars.h); no expressions */
	PRE_LINES = 8  /* then: a run of line feeds that is a token is taken as it is */
};

struct pre_row {
	const char *names;            /* of tokenizer.ggml.pre, separated by spaces */
	unsigned flags;               /* enum pre_flag */
	const char *step[PRE_STEPS];  /* regular expressions, applied one inside the other; see pre.c */
};

/* The row of a name (n bytes, from a file), or NULL. */
const struct pre_row *pre_find(const char *name, size_t n);
/* The names of row i, separated by spaces; NULL after the last. */
const char *pre_names(size_t i);

struct pre; /* a row's expressions compiled; immutable */
struct pre *pre_compile(const struct pre_row *row, struct moe_err *e);
void pre_free(struct pre *p);

/* Called for each piece in order; the pieces put together are the text. */
typedef void pre_piece(void *arg, const char *s, size_t n);

struct pre_match; /* what matching writes to; one per call */
struct pre_match *pre_match_new(struct moe_err *e);
void pre_match_free(struct pre_match *m);
/* Cut any bytes: a byte that is not part of valid UTF-8 is a piece by itself, the valid runs
 * between such bytes are cut by the expressions as if each were the whole text. -1 = out of
 * memory. */
int pre_split(const struct pre *p, struct pre_match *m, const char *s, size_t n, pre_piece *piece,
	void *arg);

#endif
