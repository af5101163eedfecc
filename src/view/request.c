/* request.c - see request.h. */
#include "view/request.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* 1 = a row is there, 0 = none, -1. */
static int step(struct reader *r, sqlite3_stmt *st, struct moe_err *e)
{
	int rc = sqlite3_step(st);

	if (rc == SQLITE_ROW || rc == SQLITE_DONE)
		return rc == SQLITE_ROW;
	return reader_fail(r, "a sequence", e);
}

static void copy(char *dst, size_t size, sqlite3_stmt *st, int col)
{
	const unsigned char *s = sqlite3_column_text(st, col);

	snprintf(dst, size, "%s", s ? (const char *)s : "");
}

int view_request_find(struct reader *r, const struct load_filter *f, int64_t id,
	struct view_request *out, struct moe_err *e)
{
	/* Neighbours by key; only the count looks at every sequence. */
	sqlite3_stmt *st = reader_prepare(r, "a sequence", "WITH w(run, domain) AS (VALUES(?1, ?2)) "
		"SELECT s.id, s.seq, s.name, d.name, s.ended IS NULL, coalesce(s.domain, 0), "
		"(SELECT b.id FROM sequence b, w WHERE b.run = w.run AND b.id < s.id AND "
		"(w.domain < 0 OR coalesce(b.domain, 0) = w.domain) ORDER BY b.id DESC LIMIT 1), "
		"(SELECT b.id FROM sequence b, w WHERE b.run = w.run AND b.id > s.id AND "
		"(w.domain < 0 OR coalesce(b.domain, 0) = w.domain) ORDER BY b.id LIMIT 1), "
		"(SELECT count(*) FROM sequence b, w WHERE b.run = w.run AND "
		"(w.domain < 0 OR coalesce(b.domain, 0) = w.domain)) "
		"FROM sequence s LEFT JOIN domain d ON d.id = s.domain WHERE s.run = ?1 AND "
		"(?3 = s.id OR (?3 = 0 AND (?2 < 0 OR coalesce(s.domain, 0) = ?2))) "
		"ORDER BY s.id DESC LIMIT 1", e);
	int got;

	memset(out, 0, sizeof *out);
	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, f->run);
	sqlite3_bind_int64(st, 2, f->domain);
	sqlite3_bind_int64(st, 3, id);
	got = step(r, st, e);
	if (got > 0) {
		out->id = sqlite3_column_int64(st, 0);
		out->seq = (uint64_t)sqlite3_column_int64(st, 1);
		copy(out->name, sizeof out->name, st, 2);
		copy(out->domain, sizeof out->domain, st, 3);
		out->open = sqlite3_column_int(st, 4);
		out->domain_id = sqlite3_column_int64(st, 5);
		out->before = sqlite3_column_int64(st, 6);
		out->after = sqlite3_column_int64(st, 7);
		out->n_seq = (uint64_t)sqlite3_column_int64(st, 8);
	}
	sqlite3_finalize(st);
	return got;
}

int view_request_number(struct reader *r, int64_t run, uint64_t seq, int64_t *id, struct moe_err *e)
{
	sqlite3_stmt *st = reader_prepare(r, "a sequence", "SELECT id FROM sequence WHERE run = ? AND "
		"seq = ?", e);
	int got;

	*id = 0;
	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, run);
	sqlite3_bind_int64(st, 2, (int64_t)seq);
	got = step(r, st, e);
	if (got > 0)
		*id = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return got;
}

/* ---- its load ---- */

/* As the writer sums them up: a NaN's picks count, its margin does not. */
static void add_chunk(struct load_set *s, const struct cursor_chunk *c)
{
	for (size_t i = 0; i < s->n; i++) {
		struct layer_load *l = &s->layer[i];

		l->tokens += c->n;
		for (uint32_t t = 0; t < c->n; t++) {
			const uint16_t *pick = c->experts + t * c->k_row + c->k_at[i];
			const float *w = c->weights + t * c->k_row + c->k_at[i];
			uint8_t flags = c->flags ? c->flags[t * c->n_layer + i] : 0;
			float margin = c->margins[t * c->n_layer + i];

			for (size_t k = 0; k < l->k; k++) {
				l->counts[pick[k]]++;
				l->weights[pick[k]] += w[k];
			}
			l->n_edited += (flags & MOE_EV_EDITED) != 0;
			l->n_nan += (flags & MOE_EV_NAN) != 0;
			if (!(flags & MOE_EV_NAN) && isfinite(margin))
				l->margin += margin, l->n_margin++;
		}
	}
}

/* Where its chunks of the phase begin, and how many tokens they hold. 1, 0 = there are none, -1. */
static int find_chunks(struct reader *r, const struct load_filter *f, struct view_request *q,
	int64_t *first, struct moe_err *e)
{
	sqlite3_stmt *st = reader_prepare(r, "a sequence", "SELECT total(n), (SELECT id FROM chunk "
		"WHERE sequence = ?1 AND (?2 < 0 OR phase = ?2) ORDER BY pos, id LIMIT 1) FROM chunk WHERE "
		"sequence = ?1 AND (?2 < 0 OR phase = ?2)", e);
	int got;

	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, q->id);
	sqlite3_bind_int(st, 2, f->phase);
	got = step(r, st, e);
	if (got > 0) {
		q->n_all = (uint64_t)sqlite3_column_int64(st, 0);
		*first = sqlite3_column_int64(st, 1);
		got = q->n_all > 0;
	}
	sqlite3_finalize(st);
	return got;
}

int view_request_load(struct reader *r, const struct run_info *u, const struct load_filter *f,
	struct view_request *q, struct load_set *out, struct moe_err *e)
{
	struct load_filter all = { .run = u->id, .domain = -1, .phase = f->phase };
	struct cursor_chunk c;
	struct cursor *cur = NULL;
	int64_t first = 0;
	int got, status = -1;

	q->tokens = 0;
	if (load_set_init(out, u->layers, u->n_moe_layer, e))
		goto out;
	got = find_chunks(r, f, q, &first, e);
	if (got > 0) {
		cur = cursor_open(r, &all, e);
		got = cur ? cursor_seek(cur, first, e) : -1;
	}
	while (got > 0 && q->tokens < VIEW_REQUEST_MOST && (got = cursor_next(cur, &c, e)) > 0) {
		if (c.sequence != q->id || c.n_layer != out->n)
			break;
		add_chunk(out, &c);
		q->tokens += c.n;
	}
	status = got < 0 ? -1 : 0;
out:
	cursor_close(cur);
	if (status)
		load_set_free(out);
	return status;
}
