/*
 * stream.c - see stream.h. Reads the chunks of one sequence through the `routing` table function,
 * so the cost is that of the sequence, not of the run.
 */
#include "view/stream.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "view/decisions.h"
#include "view/request.h"

/* Which sequence, and who its neighbours are: 1, 0 = the selection has none, -1. */
static int find_sequence(struct reader *r, const struct load_filter *f, int64_t id,
	struct view_stream *v, struct moe_err *e)
{
	struct view_request q;
	int got = view_request_find(r, f, id, &q, e);

	if (got <= 0)
		return got;
	v->sequence = q.id, v->before = q.before, v->after = q.after;
	v->seq = q.seq, v->n_seq = q.n_seq;
	v->open = q.open;
	snprintf(v->name, sizeof v->name, "%s", q.name);
	snprintf(v->domain, sizeof v->domain, "%s", q.domain);
	return 1;
}

/* Where the tokens to show begin and end. */
static int find_range(struct reader *r, struct view_stream *v, int64_t until, size_t most,
	int64_t *first, int64_t *last, struct moe_err *e)
{
	sqlite3_stmt *st = reader_prepare(r, "a sequence", "SELECT total(n), max(pos + n) FROM chunk "
		"WHERE sequence = ?1", e);
	int rc;

	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, v->sequence);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		v->n_all = (uint64_t)sqlite3_column_int64(st, 0);
		*last = sqlite3_column_int64(st, 1) - 1;
	}
	sqlite3_finalize(st);
	if (rc != SQLITE_ROW)
		return reader_fail(r, "a sequence", e);
	*last = until >= 0 && until < *last ? until : *last;
	*first = *last - (int64_t)most + 1;
	return 0;
}

static double real(sqlite3_stmt *st, int col)
{
	return sqlite3_column_type(st, col) == SQLITE_NULL ? NAN : sqlite3_column_double(st, col);
}

static int read_tokens(struct reader *r, const struct load_filter *f, struct view_stream *v,
	size_t most, int64_t first, int64_t last, struct moe_err *e)
{
	sqlite3_stmt *st = reader_prepare(r, "a sequence", "SELECT token, pos, phase, expert, weight, "
		"margin FROM routing WHERE run = ?1 AND sequence = ?2 AND layer = ?3 AND rank = 0 AND pos "
		"BETWEEN ?4 AND ?5", e);
	int rc;

	if (!st)
		return -1;
	v->token = calloc(most, sizeof *v->token);
	if (!v->token) {
		sqlite3_finalize(st);
		return err_nomem(e, most * sizeof *v->token, "tokens");
	}
	sqlite3_bind_int64(st, 1, f->run);
	sqlite3_bind_int64(st, 2, v->sequence);
	sqlite3_bind_int(st, 3, v->layer);
	sqlite3_bind_int64(st, 4, first);
	sqlite3_bind_int64(st, 5, last);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW && v->n < most)
		v->token[v->n++] = (struct view_stream_token){ .id = sqlite3_column_int(st, 0),
			.pos = (uint32_t)sqlite3_column_int64(st, 1),
			.phase = (uint8_t)sqlite3_column_int(st, 2),
			.expert = (uint16_t)sqlite3_column_int(st, 3), .weight = real(st, 4),
			.margin = real(st, 5), .len = -1 };
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		reader_fail(r, "a sequence", e);
	sqlite3_finalize(st);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : -1;
}

static int by_pos(const void *a, const void *b)
{
	const struct view_stream_token *x = a, *y = b;

	return x->pos < y->pos ? -1 : x->pos > y->pos;
}

/* As reader_token, but prepared once: this runs twice a second. */
static int add_text(struct reader *r, int64_t model, struct view_stream *v, struct moe_err *e)
{
	sqlite3_stmt *st = reader_prepare(r, "a sequence", "SELECT bytes FROM token WHERE model = ?1 "
		"AND id = ?2", e);
	int rc = SQLITE_DONE;

	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, model);
	for (size_t i = 0; i < v->n && (rc == SQLITE_DONE || rc == SQLITE_ROW); i++) {
		struct view_stream_token *t = &v->token[i];

		sqlite3_reset(st);
		sqlite3_bind_int(st, 2, t->id);
		rc = sqlite3_step(st);
		if (rc == SQLITE_ROW) {
			const void *p = sqlite3_column_blob(st, 0);
			int n = sqlite3_column_bytes(st, 0);

			t->len = n < VIEW_STREAM_BYTES ? n : VIEW_STREAM_BYTES;
			if (t->len)
				memcpy(t->bytes, p, (size_t)t->len);
			v->with_text = 1;
		}
	}
	if (rc != SQLITE_DONE && rc != SQLITE_ROW)
		reader_fail(r, "a sequence", e);
	sqlite3_finalize(st);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : -1;
}

int view_stream(struct reader *r, const struct load_filter *f, int64_t sequence, int64_t until,
	size_t li, size_t most, struct view_stream *out, struct moe_err *e)
{
	struct run_info *u = malloc(sizeof *u);
	int64_t first = 0, last = -1;
	int status = -1, got;

	memset(out, 0, sizeof *out);
	if (!u)
		return err_nomem(e, sizeof *u, "a run");
	if (reader_run(r, f->run, u, e))
		goto out;
	if (li >= u->n_moe_layer) {
		err_set(e, MOE_ERR_USAGE, "run %lld has no MoE layer number %zu", (long long)u->id, li);
		goto out;
	}
	out->layer = u->layers[li].layer, out->n_expert = u->layers[li].n_expert;
	out->k = u->layers[li].k;
	if (view_decisions_missing(u, out->why, sizeof out->why)) {
		status = 0;
		goto out;
	}
	got = find_sequence(r, f, sequence, out, e);
	if (!got)
		snprintf(out->why, sizeof out->why, "this selection has no sequence");
	if (!got || (got > 0 && !find_range(r, out, until, most, &first, &last, e) &&
	    (last < 0 || (!read_tokens(r, f, out, most, first, last, e) &&
	    !add_text(r, u->model, out, e)))))
		status = 0;
	if (out->n)
		qsort(out->token, out->n, sizeof *out->token, by_pos);
out:
	free(u);
	if (status)
		view_stream_free(out);
	return status;
}

void view_stream_free(struct view_stream *v)
{
	free(v->token);
	memset(v, 0, sizeof *v);
}
