/* words.h - a hook that logs the text of every token that is routed, once each (--log-text). */
#ifndef CMD_WORDS_H
#define CMD_WORDS_H

#include <moescope/hook.h>
#include <moescope/trace.h>

#include "tok/tok.h"

struct words {
	struct moe_hook hook;
	struct moe_trace *t;
	const struct tok *tok;
	unsigned char *seen; /* [n_vocab] */
	size_t n_vocab;
	int layer;           /* the first MoE layer; -1 = not known yet */
};

/* Fill in; add &w->hook to the session after the trace's own. Borrows t and tok. */
int words_init(struct words *w, struct moe_trace *t, const struct tok *tok, size_t n_vocab,
	struct moe_err *e);
void words_free(struct words *w);

#endif
