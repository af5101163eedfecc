/* tok_try.h - tokenizers from model files that are built byte by byte. */
#ifndef TOK_TRY_H
#define TOK_TRY_H

#include "test_util.h"

#include "gguf/gguf.h"
#include "gguf_build.h"
#include "tok/load.h"
#include "tok/tok.h"

/* The tokenizer of a file that is whole; NULL and e where it is refused. Frees b. */
static inline struct tok *tok_of(struct bytes *b, struct moe_err *e)
{
	struct gguf *g;
	struct tok *t;

	memset(e, 0, sizeof *e);
	g = gguf_open_memory(b->p, b->n, "made", e);
	ok_or_fail(g != NULL, e);
	t = tok_load(g, e);
	gguf_close(g);
	free(b->p);
	return t;
}

/* t must be NULL, the error one about input that says `want`. */
static inline void tok_refused(const struct tok *t, const struct moe_err *e, const char *want)
{
	if (t)
		fail_msg("loaded, expected: %s", want);
	assert_int_equal(e->code, MOE_ERR_INPUT);
	if (!strstr(e->msg, want))
		fail_msg("'%s' is not in: %s", want, e->msg);
}

#endif
