/*
 * counts.c - a run of which only counts are known, written in one go; see writer.h.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "trace/dbfile.h"
#include "trace/sink.h"
#include "trace/writer.h"

static int fail(sqlite3 *db, const char *what, struct moe_err *e)
{
	return err_set(e, MOE_ERR_SYS, "%s: %s", what, sqlite3_errmsg(db));
}

/* Domain and sequence rows; *domain 0 = none. */
static int add_sequence(sqlite3 *db, const struct commit_opt *o, const char *name, uint64_t tokens,
	int64_t *domain, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	int bad;

	*domain = 0;
	if (name) {
		if (sqlite3_prepare_v2(db, "INSERT INTO domain(name) VALUES(?1) ON CONFLICT DO UPDATE "
			"SET name = ?1 RETURNING id", -1, &st, NULL))
			return fail(db, "adding a domain", e);
		sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
		if (sqlite3_step(st) == SQLITE_ROW)
			*domain = sqlite3_column_int64(st, 0);
		sqlite3_step(st);
		if (sqlite3_finalize(st))
			return fail(db, "adding a domain", e);
	}
	if (sqlite3_prepare_v2(db, "INSERT INTO sequence(run, seq, domain, started, ended, n_prompt) "
		"VALUES(?1, 1, nullif(?2, 0), ?3, ?3, ?4)", -1, &st, NULL))
		return fail(db, "adding a sequence", e);
	sqlite3_bind_int64(st, 1, o->run);
	sqlite3_bind_int64(st, 2, *domain);
	sqlite3_bind_int64(st, 3, o->started);
	sqlite3_bind_int64(st, 4, (int64_t)tokens);
	sqlite3_step(st);
	bad = sqlite3_finalize(st);
	return bad ? fail(db, "adding a sequence", e) : 0;
}

static int add_load(sqlite3 *db, const struct commit_opt *o, int64_t domain, const struct layout *l,
	const uint64_t *tokens, const uint64_t *const *counts, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	int rc = SQLITE_DONE;

	if (sqlite3_prepare_v2(db, "INSERT INTO load VALUES(?1, ?2, 0, 0, ?3, ?4, ?5, zeroblob(?6), "
		"zeroblob(?6), 0, 0, 0, 0, 0, 0, 0)", -1, &st, NULL))
		return fail(db, "adding load", e);
	for (size_t i = 0; rc == SQLITE_DONE && i < l->n; i++) {
		int bytes = l->layer[i].n_expert * 8;

		sqlite3_bind_int64(st, 1, o->run);
		sqlite3_bind_int64(st, 2, domain);
		sqlite3_bind_int(st, 3, l->layer[i].layer);
		sqlite3_bind_int64(st, 4, (int64_t)tokens[i]);
		sqlite3_bind_blob(st, 5, counts[i], bytes, SQLITE_STATIC);
		sqlite3_bind_int(st, 6, bytes);
		rc = sqlite3_step(st);
		sqlite3_reset(st);
	}
	return sqlite3_finalize(st) || rc != SQLITE_DONE ? fail(db, "adding load", e) : 0;
}

static int end_run(sqlite3 *db, int64_t run, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(db, "UPDATE run SET state = 'imported', ended = started WHERE id = ?",
	    -1,
		&st, NULL))
		return fail(db, "ending the run", e);
	sqlite3_bind_int64(st, 1, run);
	sqlite3_step(st);
	return sqlite3_finalize(st) ? fail(db, "ending the run", e) : 0;
}

/* The sequence and its sums, as a sink gets them from a writer. */
static int tell(const struct commit_opt *o, const char *domain, uint64_t tokens,
	const struct layout *l, const uint64_t *const *counts, struct moe_err *e)
{
	const struct moe_trace_sink *s = o->sink;
	struct sink_seq q = { .seq = 1, .domain = domain, .n_prompt = tokens };

	if (!s)
		return 0;
	if ((s->seq_begin && s->seq_begin(s->ctx, &q, e)) ||
		(s->counts && s->counts(s->ctx, 1, tokens, l->layer, l->n, counts, e)) ||
		(s->seq_end && s->seq_end(s->ctx, &q, e)))
		return -1;
	return s->finish ? s->finish(s->ctx, "imported", e) : 0;
}

int64_t writer_add_counts(const char *path, const struct moe_run_desc *d, const char *domain,
	const uint64_t *tokens, const uint64_t *const *counts, const struct moe_trace_sink *sink,
	struct moe_err *e)
{
	struct commit_opt o = { .detail = MOE_DETAIL_COUNTS, .bucket_ns = INT64_C(10000000000),
		.started = clock_wall(), .sink = sink };
	struct layout l = { 0 };
	sqlite3 *db = NULL;
	int64_t id = -1, dom;
	uint64_t most = 0;
	int lock = -1;

	if (layout_init(&l, d->layers, d->n_moe_layer, e) || !(db = dbfile_open_writer(path, &lock, e)))
		goto out;
	for (size_t i = 0; i < l.n; i++)
		most = tokens[i] > most ? tokens[i] : most;
	if ((sink && sqlite3_exec(db, "PRAGMA synchronous = FULL", NULL, NULL, NULL)) ||
		sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL)) {
		fail(db, path, e);
		goto out;
	}
	if (writer_begin_run(db, d, &l, &o, e) || add_sequence(db, &o, domain, most, &dom, e) ||
		add_load(db, &o, dom, &l, tokens, counts, e) || end_run(db, o.run, e) ||
		tell(&o, domain, most, &l, counts, e))
		goto undo;
	if (sqlite3_exec(db, "COMMIT", NULL, NULL, NULL)) {
		fail(db, path, e);
		goto undo;
	}
	id = o.run;
	if (sink && sink->settled)
		sink->settled(sink->ctx);
	sqlite3_exec(db, "PRAGMA journal_mode = DELETE", NULL, NULL, NULL); /* one plain file again */
	goto out;
undo:
	err_wrap(e, "%s", path);
	sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
out:
	dbfile_close_writer(db, lock);
	layout_free(&l);
	return id;
}
