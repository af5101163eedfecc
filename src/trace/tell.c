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
	const struct layout *l = shape->lay;
	size_t picks = shape->cap * l->k_row, decisions = shape->cap * l->n;
	size_t bytes = picks * (sizeof(float) + 2 * sizeof(uint16_t)) +
		decisions * (sizeof(float) + 1) + shape->cap * l->e_row * sizeof(float);

	*t = (struct tell){ .sink = sink, .db = db, .shape = shape, .detail = detail,
		.weights = weights };
	t->rows = sink ? malloc(bytes) : NULL;
	return t->rows || !sink ? 0 : err_nomem(e, bytes, "a chunk as it is read back");
}

void tell_free(struct tell *t)
{
	free(t->rows);
	t->rows = NULL;
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
static int round_floats(struct tell *t, size_t n, const struct tell_packed *p, float *weights,
	float *margins)
{
	const struct layout *l = t->shape->lay;

	for (size_t i = 0; !p->n_weights && i < n * l->k_row; i++)
		weights[i] = NAN;
	if (p->n_weights && unpack_weights(l, n, p->weights, p->n_weights, weights))
		return err_set(&t->err, MOE_ERR_SYS, "packed weights do not unpack");
	for (size_t i = 0; !p->n_margins && i < n * l->n; i++)
		margins[i] = NAN;
	if (p->n_margins && unpack_margins(l, n, p->margins, p->n_margins, margins))
		return err_set(&t->err, MOE_ERR_SYS, "packed margins do not unpack");
	return 0;
}

/* A block as a reader of the database gets it, token by token. */
static int as_read(struct tell *t, struct block_head *h, const struct tell_packed *p,
	struct cursor_chunk *out)
{
	const struct block_shape *s = t->shape;
	const struct layout *l = s->lay;
	size_t n = h->n;
	int edited = block_any_edited(s, h), logits = h->has_logits && (t->detail == MOE_DETAIL_FULL ||
		t->sink->want_logits);
	/* In falling order of alignment. */
	float *weights = (float *)(void *)t->rows, *margins = weights + n * l->k_row,
		*scores = margins + n * l->n;
	uint16_t *experts = (uint16_t *)(scores + (logits ? n * l->e_row : 0)),
		*before = experts + n * l->k_row;
	uint8_t *flags = (uint8_t *)(before + n * l->k_row);
	struct block_rows r;

	block_rows(s, h, 0, &r);
	block_by_token(s, r.experts, BLOCK_PICK, sizeof *experts, n, experts);
	if (edited)
		block_by_token(s, r.before, BLOCK_PICK, sizeof *before, n, before);
	if (h->any_flags)
		block_by_token(s, r.flags, BLOCK_DECISION, 1, n, flags);
	if (logits)
		block_by_token(s, r.logits, BLOCK_EXPERT, sizeof *scores, n, scores);
	*out = (struct cursor_chunk){ .seq = h->seq, .pos = h->pos, .n = h->n, .phase = h->phase,
		.n_layer = l->n, .layers = l->layer, .k_at = l->k_at, .e_at = l->e_at, .k_row = l->k_row,
		.e_row = l->e_row, .tokens = block_tokens(s, h), .experts = experts, .weights = weights,
		.margins = margins, .flags = h->any_flags ? flags : NULL, .before = edited ? before : NULL,
		.logits = logits ? scores : NULL };
	if (t->detail != MOE_DETAIL_COUNTS && t->weights != MOE_WEIGHTS_EXACT)
		return round_floats(t, n, p, weights, margins);
	block_by_token(s, r.weights, BLOCK_PICK, sizeof *weights, n, weights);
	block_by_token(s, r.margins, BLOCK_DECISION, sizeof *margins, n, margins);
	return 0;
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
