/*
 * cursor.c - decisions in order of sequence and position; see reader.h.
 *
 * Blobs are unpacked, so that arrays are aligned and outlive the statement.
 */
#include <stdlib.h>

#include "base/err.h"
#include "trace/chunk.h"
#include "trace/steps.h"

struct cursor {
	struct steps s;
	struct chunk_mem mem;
	struct cursor_chunk *out; /* of the step in progress */
};

struct cursor *cursor_open(struct reader *r, const struct load_filter *f, struct moe_err *e)
{
	struct cursor *c = calloc(1, sizeof *c);

	if (!c) {
		err_nomem(e, sizeof *c, "a cursor");
		return NULL;
	}
	if (steps_open(&c->s, r, f, "tokens, experts, weights, margins, flags, before, logits", e)) {
		cursor_close(c);
		return NULL;
	}
	return c;
}

void cursor_close(struct cursor *c)
{
	if (!c)
		return;
	steps_close(&c->s);
	chunk_mem_free(&c->mem);
	free(c);
}

static int take(void *ctx, struct moe_err *e)
{
	struct cursor *c = ctx;
	struct steps *s = &c->s;
	const void *p[CHUNK_N_BLOB];
	size_t n = (size_t)s->n;

	for (int i = 0; i < CHUNK_N_BLOB; i++)
		if (chunk_take(&c->mem, s->st, STEPS_COLUMN + i, (enum chunk_blob)i, &s->lay, s->codec, s->id,
			n, &p[i], e))
			return -1;
	if (chunk_check_ids(&s->lay, s->id, p[CHUNK_EXPERTS], n, e) ||
		chunk_check_ids(&s->lay, s->id, p[CHUNK_BEFORE], n, e))
		return -1;
	*c->out = (struct cursor_chunk){ .id = s->id, .sequence = s->sequence, .document = s->document,
		.domain = s->domain, .seq = (uint64_t)s->seq, .pos = (uint32_t)s->pos, .n = (uint32_t)n,
		.phase = s->phase, .n_layer = s->lay.n, .layers = s->lay.layer, .k_at = s->lay.k_at,
		.e_at = s->lay.e_at, .k_row = s->lay.k_row, .e_row = s->lay.e_row,
		.tokens = p[CHUNK_TOKENS], .experts = p[CHUNK_EXPERTS], .weights = p[CHUNK_WEIGHTS],
		.margins = p[CHUNK_MARGINS], .flags = p[CHUNK_FLAGS], .before = p[CHUNK_BEFORE],
		.logits = p[CHUNK_LOGITS] };
	return 0;
}

int cursor_next(struct cursor *c, struct cursor_chunk *out, struct moe_err *e)
{
	c->out = out;
	return steps_next(&c->s, take, c, e);
}
