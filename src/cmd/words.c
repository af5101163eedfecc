/* words.c - see words.h. */
#include "cmd/words.h"

#include <stdlib.h>

#include "base/err.h"

/* All layers see the same tokens: the first is enough. */
static int wants(void *ctx, int layer)
{
	struct words *w = ctx;

	if (w->layer < 0)
		w->layer = layer;
	return layer == w->layer;
}

static int route(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	struct words *w = ctx;

	for (uint32_t i = 0; i < v->n_tok; i++) {
		int32_t id = v->token[i];
		const char *text;
		size_t n;

		if (id < 0 || (size_t)id >= w->n_vocab || w->seen[id])
			continue;
		w->seen[id] = 1;
		text = tok_bytes(w->tok, id, &n);
		if (text && moe_trace_token_text(w->t, id, text, n, e))
			return -1;
	}
	return 0;
}

int words_init(struct words *w, struct moe_trace *t, const struct tok *tok, size_t n_vocab,
	struct moe_err *e)
{
	*w = (struct words){ .hook = { .name = "words", .ctx = w, .wants = wants, .route = route },
		.t = t, .tok = tok, .n_vocab = n_vocab, .layer = -1 };
	w->seen = calloc(n_vocab + 1, 1);
	return w->seen ? 0 : err_nomem(e, n_vocab, "the words");
}

void words_free(struct words *w)
{
	free(w->seen);
	w->seen = NULL;
}
