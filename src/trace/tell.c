/* tell.c - see tell.h. */
#include "trace/tell.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trace/pack.h"

int tell_init(struct tell *t, const struct moe_trace_sink *sink, sqlite3 *db,
	const struct block_shape *shape, enum moe_detail detail, enum moe_weights weights,
	struct moe_err *e)
{
	size_t bytes = shape->cap * (shape->lay->k_row + shape->lay->n) * sizeof *t->rounded;

	*t = (struct tell){ .sink = sink, .db = db, .shape = shape, .detail = detail,
		.weights = weights };
	t->rounded = sink ? malloc(bytes) : NULL;
	return t->rounded || !sink ? 0 : err_nomem(e, bytes, "a chunk as it is read back");
}

void tell_free(struct tell *t)
{
	free(t->rounded);
	t->rounded = NULL;
}

static int told(struct tell *t, int bad)
{
	int kind = sqlite3_errcode(t->db) & 0xff;

	if (!bad)
		return 0;
	return kind == SQLITE_FULL || kind == SQLITE_BUSY ||
		kind == SQLITE_LOCKED ? kind : SQLITE_ABORT;
}

int tell_begin(struct tell *t)
{
	return t->sink && t->sink->begin ? told(t, t->sink->begin(t->sink->ctx, &t->err)) : 0;
}

/* What the codec leaves out or rounds, as a reader gets it. */
static int round_floats(struct tell *t, const struct block_head *h, const struct tell_packed *p,
	struct cursor_chunk *out)
{
	const struct layout *l = t->shape->lay;
	float *margins = t->rounded + h->n * l->k_row;

	for (size_t i = 0; !p->n_weights && i < h->n * l->k_row; i++)
		t->rounded[i] = NAN;
	if (p->n_weights && unpack_weights(l, h->n, p->weights, p->n_weights, t->rounded))
		return err_set(&t->err, MOE_ERR_SYS, "packed weights do not unpack");
	for (size_t i = 0; !p->n_margins && i < h->n * l->n; i++)
		margins[i] = NAN;
	if (p->n_margins && unpack_margins(l, h->n, p->margins, p->n_margins, margins))
		return err_set(&t->err, MOE_ERR_SYS, "packed margins do not unpack");
	out->weights = t->rounded;
	out->margins = margins;
	return 0;
}

/* A block as a reader of the database gets it. */
static int as_read(struct tell *t, struct block_head *h, const struct tell_packed *p,
	struct cursor_chunk *out)
{
	const struct layout *l = t->shape->lay;
	struct block_rows r;
	int edited = 0;

	block_rows(t->shape, h, &r);
	for (size_t i = 0; h->edited && i < h->n * l->n; i++)
		edited |= r.flags[i] & MOE_EV_EDITED;
	*out = (struct cursor_chunk){ .seq = h->seq, .pos = h->pos, .n = h->n, .phase = h->phase,
		.n_layer = l->n, .layers = l->layer, .k_at = l->k_at, .e_at = l->e_at, .k_row = l->k_row,
		.e_row = l->e_row, .tokens = r.tokens, .experts = r.experts, .weights = r.weights,
		.margins = r.margins, .flags = h->any_flags ? r.flags : NULL,
		.before = edited ? r.before : NULL,
		.logits = h->has_logits && (t->detail == MOE_DETAIL_FULL || t->sink->want_logits) ?
			r.logits : NULL };
	if (t->detail == MOE_DETAIL_COUNTS || t->weights == MOE_WEIGHTS_EXACT)
		return 0;
	return round_floats(t, h, p, out);
}

int tell_chunk(struct tell *t, struct block_head *h, const struct tell_packed *p)
{
	const struct moe_trace_sink *s = t->sink;
	struct cursor_chunk view;

	if (!s || !s->chunk)
		return 0;
	if (as_read(t, h, p, &view))
		return SQLITE_ABORT;
	return told(t, s->chunk(s->ctx, t->detail == MOE_DETAIL_COUNTS ? 0 :
		sqlite3_last_insert_rowid(t->db), &view, &t->err));
}

int tell_seq_begin(struct tell *t, const struct sink_seq *q)
{
	return t->sink && t->sink->seq_begin ? told(t, t->sink->seq_begin(t->sink->ctx, q, &t->err)) :
		0;
}

int tell_seq_end(struct tell *t, const struct sink_seq *q)
{
	return t->sink && t->sink->seq_end ? told(t, t->sink->seq_end(t->sink->ctx, q, &t->err)) : 0;
}

int tell_note(struct tell *t, const char *kind, const char *text, int layer, double value,
	uint64_t seq, uint32_t pos)
{
	const struct moe_trace_sink *s = t->sink;

	if (s && s->gap && !strcmp(kind, "gap"))
		return told(t, s->gap(s->ctx, seq, pos, (uint64_t)value, &t->err));
	return s && s->note ? told(t, s->note(s->ctx, kind, text, layer, value, &t->err)) : 0;
}

int tell_tick(struct tell *t)
{
	return t->sink && t->sink->tick ? told(t, t->sink->tick(t->sink->ctx, &t->err)) : 0;
}

int tell_finish(struct tell *t, const char *state)
{
	return t->sink && t->sink->finish ? told(t, t->sink->finish(t->sink->ctx, state, &t->err)) : 0;
}

void tell_settled(struct tell *t)
{
	if (t->sink && t->sink->settled)
		t->sink->settled(t->sink->ctx);
}
